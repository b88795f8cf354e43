-- kind: online
CREATE INDEX CONCURRENTLY records_of_everybody_by_update ON parley.records (updated_hour);
