-- kind: online
CREATE INDEX CONCURRENTLY records_by_update ON parley.records (user_id, updated_hour);
