-- name: read_migrations
SELECT name, checksum FROM parley.migrations ORDER BY number

-- name: add_migration
INSERT INTO parley.migrations (number, name, checksum) VALUES ($1, $2, $3)
