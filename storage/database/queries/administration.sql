-- name: usage_behind
-- 1 the id before, 2 how many
SELECT one.conversation_id, one.user_id
FROM conversations AS one LEFT JOIN usage_positions AS counted USING (conversation_id)
WHERE one.recorded = 1 AND one.deleted_at IS NULL
    AND one.conversation_id > ?1 AND one.next_id > coalesce(counted.position, 0)
ORDER BY one.conversation_id LIMIT ?2

-- name: usage_position
SELECT user_id, position, cost, prompt_tokens, completion_tokens, checksum IS computed FROM checked_usage_positions
WHERE conversation_id = ?

-- name: usage_lines_of
SELECT day, model, events, prompt_tokens, completion_tokens, cost, checksum IS computed FROM checked_usage_lines
WHERE conversation_id = ? ORDER BY day, model

-- name: write_usage_position
INSERT OR REPLACE INTO usage_positions (
    conversation_id, user_id, position, cost, prompt_tokens, completion_tokens, checksum
) VALUES (
    ?1, ?2, ?3, ?4, ?5, ?6,
    row_crc(
        CAST(?1 AS BLOB), CAST(?2 AS BLOB), CAST(?3 AS BLOB), CAST(?4 AS REAL), CAST(?5 AS BLOB), CAST(?6 AS BLOB)
    )
)

-- name: write_usage_lines
INSERT INTO usage_lines (conversation_id, day, model, events, prompt_tokens, completion_tokens, cost, checksum)
VALUES (
    ?1, ?2, ?3, ?4, ?5, ?6, ?7,
    row_crc(
        CAST(?1 AS BLOB), CAST(?2 AS BLOB), CAST(?3 AS BLOB), CAST(?4 AS BLOB), CAST(?5 AS BLOB), CAST(?6 AS BLOB),
        CAST(?7 AS REAL)
    )
)

-- name: drop_usage_lines
DELETE FROM usage_lines WHERE conversation_id = ?

-- name: drop_usage_position
DELETE FROM usage_positions WHERE conversation_id = ?

-- name: usage_totals
-- 1 and 2 the days, 3 how many. `sum` fails where whole numbers come to more than 64 bits hold.
SELECT line.day, counted.user_id, line.model, sum(line.events), CAST(total(line.prompt_tokens) AS INTEGER),
    CAST(total(line.completion_tokens) AS INTEGER), sum(line.cost)
FROM usage_lines AS line JOIN usage_positions AS counted USING (conversation_id)
WHERE line.day BETWEEN ?1 AND ?2
GROUP BY line.day, counted.user_id, line.model
ORDER BY line.day DESC, counted.user_id, line.model LIMIT ?3

-- name: add_audit
INSERT INTO audit (acting, body, checksum) VALUES (?1, ?2, row_crc(CAST(?1 AS BLOB), CAST(?2 AS BLOB))) RETURNING id

-- name: change_audit
-- A record that fails its checksum goes on failing it.
UPDATE audit SET body = ?1, checksum = (
    SELECT iif(checksum IS computed, row_crc(CAST(acting AS BLOB), CAST(?1 AS BLOB)), checksum)
    FROM checked_audit AS c WHERE c.id = audit.id
)
WHERE id = ?2

-- name: trim_audit
-- 1 which, 2 how many are kept
DELETE FROM audit WHERE acting = ?1
    AND id <= (SELECT id FROM audit WHERE acting = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)

-- name: list_audit
-- 1 the id before, 2 whether only acts, 3 how many
SELECT id, body, checksum IS computed FROM checked_audit WHERE id < ?1 AND acting >= ?2 ORDER BY id DESC LIMIT ?3

-- name: damaged_usage
SELECT conversation_id FROM checked_usage_positions WHERE checksum IS NOT computed
UNION
SELECT conversation_id FROM checked_usage_lines WHERE checksum IS NOT computed

-- name: damaged_audit
SELECT id FROM checked_audit WHERE checksum IS NOT computed

-- name: inventory
SELECT
    (SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()),
    (SELECT count(*) FROM conversations WHERE recorded = 1 AND deleted_at IS NULL),
    (SELECT count(*) FROM conversations WHERE deleted_at IS NOT NULL),
    (SELECT coalesce(sum(next_id), 0) FROM conversations WHERE deleted_at IS NULL),
    (SELECT coalesce(max(number), 0) FROM migrations)

-- name: counted_conversations
SELECT conversation_id FROM usage_positions WHERE conversation_id > ? ORDER BY conversation_id LIMIT ?
