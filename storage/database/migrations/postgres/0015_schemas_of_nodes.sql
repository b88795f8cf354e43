-- kind: expand
-- The versions of the schema that a server of a cluster works with; null for one of the version before.
ALTER TABLE parley.nodes ADD COLUMN schema_from integer, ADD COLUMN schema_to integer;
