-- Reads every row, a page at a time: the last parameter is the number of rows, the others are the position of the row
-- before the page, whose columns come first in each row.

-- name: has_schema
SELECT to_regclass($1::text) IS NOT NULL

-- name: has_page_checksums
SELECT current_setting('data_checksums') = 'on'

-- name: inventory
-- 1 how many rows are counted one by one at most. Of more records there is the planner's estimate; of more heads
-- neither the deleted ones nor the events are told.
WITH some_heads AS MATERIALIZED (
    SELECT count(*) AS heads, count(*) FILTER (WHERE state > 0) AS deleted,
        coalesce(sum(next_id) FILTER (WHERE state = 0), 0)::bigint AS events
    FROM (SELECT state, next_id FROM parley.heads LIMIT $1::bigint + 1) AS counted
), some_records AS MATERIALIZED (
    SELECT count(*) AS records FROM (SELECT FROM parley.records LIMIT $1::bigint + 1) AS counted
)
SELECT
    (SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
     WHERE relkind = 'r' AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'parley.heads'::regclass)),
    CASE WHEN records <= $1 THEN records
        ELSE (SELECT greatest(records, reltuples::bigint) FROM pg_class WHERE oid = 'parley.records'::regclass) END,
    CASE WHEN heads <= $1 THEN deleted END,
    CASE WHEN heads <= $1 THEN events END,
    (SELECT coalesce(max(number), 0) FROM parley.migrations)
FROM some_heads, some_records

-- name: check_totals
SELECT
    (SELECT count(*) FROM parley.records),
    (SELECT count(*) FROM parley.user_records),
    (SELECT count(*) FROM parley.usage_lines),
    (SELECT count(*) FROM parley.audit),
    (SELECT count(*) FROM parley.workspaces),
    (SELECT count(*) FROM parley.workspace_blobs)

-- name: check_records
SELECT
    conversation_id, user_id, created_at, title, selected_repository, selected_branch, git_provider,
    trigger_kind, pr_number, llm_model, sandbox_id, conversation_version, custom,
    last_updated_at, accumulated_cost, prompt_tokens, completion_tokens, total_tokens, last_message_at
FROM parley.folded_records WHERE conversation_id > $1 ORDER BY conversation_id LIMIT $2

-- name: check_users
SELECT owner, kind, body FROM parley.user_records WHERE (owner, kind) > ($1, $2) ORDER BY owner, kind LIMIT $3

-- name: check_usage
SELECT conversation_id, day, model, events FROM parley.usage_lines
WHERE (conversation_id, day, model) > ($1, $2, $3) ORDER BY conversation_id, day, model LIMIT $4

-- name: check_audit
SELECT id, body FROM parley.audit WHERE id > $1 ORDER BY id LIMIT $2

-- name: check_workspaces
SELECT w.number, h.conversation_id, w.manifest,
    ARRAY(SELECT b.name FROM parley.workspace_blobs b WHERE b.number = w.number)
FROM parley.workspaces w JOIN parley.heads h ON h.number = w.number AND h.state = 0
WHERE w.number > $1 ORDER BY w.number LIMIT $2

-- name: check_blobs
SELECT b.number, b.name, h.conversation_id, b.body
FROM parley.workspace_blobs b JOIN parley.heads h ON h.number = b.number AND h.state = 0
WHERE (b.number, b.name) > ($1, $2) ORDER BY b.number, b.name LIMIT $3

-- name: check_log_totals
SELECT (SELECT coalesce(sum(next_id), 0)::bigint FROM parley.heads WHERE state = 0), (SELECT count(*) FROM parley.asides)

-- name: check_heads
-- With the newest event of each, seen at the same moment.
SELECT h.number, h.conversation_id, h.next_id, h.last_state_id,
    coalesce(
        (SELECT e.id FROM parley.events e WHERE e.number = h.number ORDER BY e.id DESC LIMIT 1), h.sealed - 1
    ),
    h.last_updated_at, h.accumulated_cost, h.prompt_tokens, h.completion_tokens, h.total_tokens, h.last_message_at
FROM parley.heads h WHERE h.number > $1 AND h.state = 0 ORDER BY h.number LIMIT $2

-- name: check_events
-- 1 the log, 2 the last id of the event or the page before. What was read as rows may be a page by now.
SELECT last_id, id, version, flag, crc, body FROM parley.log_parts
WHERE number = $1 AND id > $2::integer - 100 AND last_id > $2 ORDER BY id LIMIT $3

-- name: check_keys
SELECT digest, id FROM parley.client_ids WHERE number = $1 AND digest = ANY ($2::bytea[])

-- name: check_asides
-- A few at a time, since they may be long. What a deletion has yet to drop is passed over.
SELECT a.number, a.name, h.conversation_id, a.crc, a.body
FROM parley.asides a LEFT JOIN parley.heads h ON h.number = a.number
WHERE (a.number, a.name) > ($1, $2) AND coalesce(h.state, 0) = 0
ORDER BY a.number, a.name LIMIT least($3::bigint, 8)

-- name: check_is_open
SELECT FROM parley.heads WHERE number = $1 AND state = 0

-- name: check_strays
-- Events, pages and keys of no log, behind its end, or on the wrong side of what is sealed.
SELECT 'events', e.number, min(e.id), max(e.id)
FROM parley.events e LEFT JOIN parley.heads h ON h.number = e.number
WHERE h.number IS NULL OR h.state = 0 AND e.id < h.sealed GROUP BY e.number
UNION ALL
SELECT 'pages with events', p.number, min(p.first_id), max(p.first_id + p.count - 1)
FROM parley.pages p LEFT JOIN parley.heads h ON h.number = p.number
WHERE h.number IS NULL OR h.state = 0 AND p.first_id + p.count > h.sealed GROUP BY p.number
UNION ALL
SELECT 'keys', c.number, min(c.id), max(c.id)
FROM parley.client_ids c LEFT JOIN parley.heads h ON h.number = c.number
WHERE h.number IS NULL OR h.state = 0 AND c.id >= h.next_id GROUP BY c.number
LIMIT $1
