-- name: has_kinds
-- 1 the table of migrations: whether it is there, as this version has it.
SELECT EXISTS (
    SELECT FROM pg_attribute WHERE attrelid = to_regclass($1::text) AND attname = 'kind' AND NOT attisdropped
)

-- name: read_migrations
SELECT number, name, checksum, kind FROM parley.migrations ORDER BY number

-- name: add_migration
INSERT INTO parley.migrations (number, name, checksum, kind) VALUES ($1, $2, $3, $4)

-- name: index_is_valid
-- 1 the index, with its schema; no row where there is none.
SELECT indisvalid AND indisready FROM pg_index WHERE indexrelid = to_regclass($1::text)

-- name: try_lock
SELECT pg_try_advisory_xact_lock($1::bigint)

-- name: record_schema_use
INSERT INTO parley.schema_use (schema_from, schema_to, since) VALUES ($1, $2, now())
ON CONFLICT (only_row) DO UPDATE SET
    schema_from = excluded.schema_from, schema_to = excluded.schema_to, since = excluded.since

-- name: read_schema_use
SELECT schema_to FROM parley.schema_use

-- name: nodes_tell_schemas
-- 1 the table of nodes, with its schema.
SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass($1::text) AND attname = 'schema_to')

-- name: read_schemas_of_nodes
-- Those that live; one that does not tell is of the version that made the table.
SELECT coalesce(schema_to, 14) FROM parley.nodes WHERE NOT ended
