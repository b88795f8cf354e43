-- name: read_user_record
SELECT body FROM parley.user_records WHERE owner = $1 AND kind = $2

-- name: write_user_record
INSERT INTO parley.user_records (owner, kind, body) VALUES ($1, $2, $3)
ON CONFLICT (owner, kind) DO UPDATE SET body = excluded.body

-- name: delete_user_record
DELETE FROM parley.user_records WHERE owner = $1 AND kind = $2

-- name: read_key_mark
SELECT key_id FROM parley.key_mark

-- name: claim_key_mark
INSERT INTO parley.key_mark (key_id) VALUES ($1) ON CONFLICT DO NOTHING

-- name: user_record_names
SELECT owner, kind FROM parley.user_records WHERE (owner, kind) > ($1, $2) ORDER BY owner, kind LIMIT $3
