-- name: read_user_record
SELECT body FROM user_records WHERE owner = ? AND kind = ?

-- name: write_user_record
INSERT INTO user_records (owner, kind, body) VALUES (?, ?, ?)
ON CONFLICT (owner, kind) DO UPDATE SET body = excluded.body

-- name: delete_user_record
DELETE FROM user_records WHERE owner = ? AND kind = ?

-- name: read_key_mark
SELECT key_id FROM key_mark

-- name: claim_key_mark
INSERT INTO key_mark (only_row, key_id) VALUES (1, ?) ON CONFLICT DO NOTHING

-- name: user_record_names
SELECT owner, kind FROM user_records WHERE (owner, kind) > (?, ?) ORDER BY owner, kind LIMIT ?
