-- name: usage_behind
-- 1 the id before, 2 how many
SELECT conversation_id, user_id FROM parley.records
WHERE uncounted AND conversation_id > $1 ORDER BY conversation_id LIMIT $2

-- name: usage_position
SELECT user_id, position, cost, prompt_tokens, completion_tokens, true FROM parley.usage_positions
WHERE conversation_id = $1

-- name: usage_lines_of
SELECT day, model, events, prompt_tokens, completion_tokens, cost, true FROM parley.usage_lines
WHERE conversation_id = $1 ORDER BY day, model

-- name: write_usage_position
-- Where all is counted that is there, the record is not asked for again until the next append.
WITH head AS (
    UPDATE parley.heads SET counted = true
    WHERE number = parley.number_of($1) AND conversation_id = $1 AND state = 0 AND next_id <= $3 AND NOT counted
    RETURNING number
), told AS (
    UPDATE parley.records r SET uncounted = false FROM head WHERE r.number = head.number
)
INSERT INTO parley.usage_positions (conversation_id, user_id, position, cost, prompt_tokens, completion_tokens)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (conversation_id) DO UPDATE SET
    user_id = excluded.user_id,
    position = excluded.position,
    cost = excluded.cost,
    prompt_tokens = excluded.prompt_tokens,
    completion_tokens = excluded.completion_tokens

-- name: write_usage_lines
INSERT INTO parley.usage_lines (conversation_id, day, model, events, prompt_tokens, completion_tokens, cost)
VALUES ($1, $2, $3, $4, $5, $6, $7)

-- name: drop_usage_lines
DELETE FROM parley.usage_lines WHERE conversation_id = $1

-- name: drop_usage_position
WITH head AS (
    UPDATE parley.heads SET counted = false
    WHERE number = parley.number_of($1) AND conversation_id = $1 AND state = 0 AND next_id > 0 AND counted
    RETURNING number
), told AS (
    UPDATE parley.records r SET uncounted = true FROM head WHERE r.number = head.number
)
DELETE FROM parley.usage_positions WHERE conversation_id = $1

-- name: usage_totals
-- 1 and 2 the days, 3 how many. Sums of tokens end at what 64 bits hold.
SELECT line.day, counted.user_id, line.model, sum(line.events)::bigint,
    least(sum(line.prompt_tokens), 9223372036854775807)::bigint,
    least(sum(line.completion_tokens), 9223372036854775807)::bigint, sum(line.cost)
FROM parley.usage_lines line JOIN parley.usage_positions counted ON counted.conversation_id = line.conversation_id
WHERE line.day BETWEEN $1 AND $2
GROUP BY line.day, counted.user_id, line.model
ORDER BY line.day DESC, counted.user_id NULLS FIRST, line.model LIMIT $3

-- name: add_audit
-- One behind the newest, which is never trimmed. A sequence would leave out the numbers of what was undone.
INSERT INTO parley.audit (id, acting, body) OVERRIDING SYSTEM VALUE
SELECT coalesce(max(id), 0) + 1, $1::integer, $2::text FROM parley.audit RETURNING id

-- name: change_audit
UPDATE parley.audit SET body = $1 WHERE id = $2

-- name: trim_audit
-- 1 which, 2 how many are kept
DELETE FROM parley.audit WHERE acting = $1
    AND id <= (SELECT id FROM parley.audit WHERE acting = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)

-- name: list_audit
-- 1 the id before, 2 whether only acts, 3 how many
SELECT id, body, true FROM parley.audit WHERE id < $1 AND acting >= $2 ORDER BY id DESC LIMIT $3

-- name: counted_conversations
SELECT conversation_id FROM parley.usage_positions WHERE conversation_id > $1 ORDER BY conversation_id LIMIT $2
