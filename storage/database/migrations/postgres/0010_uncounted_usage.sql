-- kind: online
CREATE INDEX CONCURRENTLY records_uncounted ON parley.records (conversation_id) WHERE uncounted;
