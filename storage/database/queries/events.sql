-- name: advance_head
UPDATE conversations SET
    next_id = next_id + ?,
    last_state_id = coalesce(?, last_state_id),
    fence = coalesce(?, fence),
    holder = coalesce(?, holder),
    masks = coalesce(?, masks),
    last_updated_at = coalesce(?, last_updated_at),
    accumulated_cost = coalesce(?, accumulated_cost),
    prompt_tokens = coalesce(?, prompt_tokens),
    completion_tokens = coalesce(?, completion_tokens),
    total_tokens = coalesce(?, total_tokens),
    last_message_at = coalesce(?, last_message_at)
WHERE conversation_id = ? AND next_id = ? AND deleted_at IS NULL
    AND coalesce(holder IS NULL OR (fence, holder) = (?, ?) OR fence < ?, TRUE) AND coalesce(masks <= ?, TRUE)
RETURNING number

-- name: append_events
INSERT INTO appends
SELECT * FROM (VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)) WHERE column1 > 0

-- name: create_head
INSERT INTO conversations (conversation_id) VALUES (?) ON CONFLICT (conversation_id) DO NOTHING

-- name: read_head
SELECT number, next_id, last_state_id, epoch, deleted_at, fence, holder, last_updated_at, masks
FROM conversations WHERE conversation_id = ?

-- name: read_checked_head
-- read_head, whether the log has asides, and the id of the newest event that is in its place; null where none
-- is.
SELECT number, next_id, last_state_id, epoch, deleted_at, fence, holder, last_updated_at, masks,
    EXISTS (SELECT 1 FROM asides WHERE conversation = number), (
    SELECT max(key) & 4294967295 FROM events WHERE key BETWEEN number << 32 AND number << 32 | 4294967295
)
FROM conversations WHERE conversation_id = ?

-- name: read_checked_heads
-- read_checked_head of several logs, and which of them each is.
SELECT asked.key, number, next_id, last_state_id, epoch, deleted_at, fence, holder, last_updated_at, masks,
    EXISTS (SELECT 1 FROM asides WHERE conversation = number), (
    SELECT max(key) & 4294967295 FROM events WHERE key BETWEEN number << 32 AND number << 32 | 4294967295
)
FROM json_each(?) AS asked CROSS JOIN conversations ON conversation_id = asked.value

-- name: read_ends
-- Where the head says that a log ends, and where its events end, in their place or not.
SELECT next_id, max(
    coalesce((SELECT max(key) FROM events WHERE key BETWEEN number << 32 AND number << 32 | 4294967295), 0),
    coalesce((SELECT max(key) FROM arrivals WHERE key BETWEEN number << 32 AND number << 32 | 4294967295), 0),
    (number << 32) - 1
) - (number << 32) + 1
FROM conversations WHERE conversation_id = ?

-- name: newest_in_place
SELECT max(key) & 4294967295 FROM events WHERE key BETWEEN ?1 << 32 AND ?1 << 32 | 4294967295

-- name: insert_events
INSERT INTO arrivals (key, version, flag, crc, body) VALUES (?, ?, ?, ?, ?)

-- name: insert_events_in_place
INSERT INTO events (key, version, flag, crc, body) VALUES (?, ?, ?, ?, ?)

-- name: insert_client_ids
INSERT INTO client_ids (conversation, digest, event_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING

-- name: place_arrivals
INSERT INTO events (key, version, flag, crc, body)
SELECT key, version, flag, crc, body FROM arrivals
WHERE typeof(key) = 'integer'  -- one that is damaged to be null would be given the next key of any log
ORDER BY key

-- name: drop_arrivals
DELETE FROM arrivals

-- name: place_fitting_arrivals
-- Passes over an arrival whose place is taken, and over all but one of those for the same place.
INSERT INTO events (key, version, flag, crc, body)
SELECT key, version, flag, crc, body FROM arrivals WHERE typeof(key) = 'integer' ORDER BY key, seq
ON CONFLICT DO NOTHING

-- name: drop_placed_arrivals
DELETE FROM arrivals WHERE EXISTS (
    SELECT 1 FROM events WHERE events.key = arrivals.key AND events.version = arrivals.version
        AND events.crc = arrivals.crc AND events.body = arrivals.body
)

-- name: arrivals_without_place
-- Those of each log, and at last those whose key is damaged, of which nobody knows whose they are.
SELECT key >> 32, conversation_id, min(key) & 4294967295, max(key) & 4294967295
FROM arrivals LEFT JOIN conversations ON number = key >> 32 WHERE typeof(key) = 'integer' GROUP BY key >> 32
UNION ALL
SELECT NULL, NULL, lost, NULL
FROM (SELECT count(*) AS lost FROM arrivals WHERE typeof(key) <> 'integer') WHERE lost > 0

-- name: find_client_id
SELECT event_id FROM client_ids WHERE conversation = ? AND digest = ?

-- name: find_client_id_by_name
SELECT event_id FROM client_ids
WHERE conversation = (SELECT number FROM conversations WHERE conversation_id = ?) AND digest = ?

-- name: read_events
SELECT key & 4294967295, version, flag, crc, body FROM events
WHERE key BETWEEN (SELECT number << 32 | ? FROM conversations WHERE conversation_id = ? AND deleted_at IS NULL)
    AND (SELECT number << 32 | ? FROM conversations WHERE conversation_id = ?)
ORDER BY key

-- name: read_all_events
WITH bounds AS (
    SELECT number << 32 | ? AS first, number << 32 | ? AS last FROM conversations
    WHERE conversation_id = ? AND deleted_at IS NULL
)
SELECT key & 4294967295, version, flag, crc, body FROM (
    SELECT key, version, flag, crc, body FROM events
    WHERE key BETWEEN (SELECT first FROM bounds) AND (SELECT last FROM bounds)
    UNION ALL
    SELECT key, version, flag, crc, body FROM arrivals
    WHERE key BETWEEN (SELECT first FROM bounds) AND (SELECT last FROM bounds)
)
ORDER BY key

-- name: read_ranges
-- The events in their place of several logs, each asked for as its id, the first and the last event's id.
SELECT asked.key, events.key & 4294967295, version, flag, crc, body
FROM json_each(?) AS asked
CROSS JOIN conversations ON conversation_id = json_extract(asked.value, '$[0]') AND deleted_at IS NULL
CROSS JOIN events ON events.key BETWEEN number << 32 | json_extract(asked.value, '$[1]')
    AND number << 32 | json_extract(asked.value, '$[2]')
ORDER BY asked.key, events.key

-- name: bury_conversation
INSERT INTO conversations (conversation_id, deleted_at) VALUES (?, ?)
ON CONFLICT (conversation_id) DO UPDATE SET
    deleted_at = coalesce(deleted_at, excluded.deleted_at), title = NULL, folded_title = NULL, custom = '{}',
    selected_repository = NULL, selected_branch = NULL, recorded = 0, user_id = NULL, created_at = NULL,
    git_provider = NULL, trigger_kind = NULL, pr_number = '[]', llm_model = NULL, sandbox_id = NULL,
    conversation_version = NULL, last_updated_at = NULL, last_message_at = NULL
RETURNING number

-- name: unpurged_conversations
SELECT number FROM conversations WHERE deleted_at IS NOT NULL AND purged = 0

-- name: purge_events
DELETE FROM events WHERE key IN (SELECT key FROM events WHERE key BETWEEN ? AND ? LIMIT ?)

-- name: purge_arrivals
DELETE FROM arrivals WHERE key BETWEEN ? AND ?

-- name: put_aside
INSERT INTO asides (conversation, name, crc, body)
SELECT number, ?, ?, ? FROM conversations WHERE conversation_id = ? AND deleted_at IS NULL
ON CONFLICT (conversation, name) DO UPDATE SET crc = excluded.crc, body = excluded.body

-- name: drop_aside
DELETE FROM asides
WHERE name = ? AND conversation = (SELECT number FROM conversations WHERE conversation_id = ?)

-- name: read_asides
SELECT name, crc, body FROM asides
JOIN conversations ON number = conversation AND deleted_at IS NULL
WHERE conversation_id = ?

-- name: purge_asides
DELETE FROM asides WHERE conversation = ?

-- name: purge_client_ids
DELETE FROM client_ids WHERE conversation = ?

-- name: mark_purged
UPDATE conversations SET purged = 1 WHERE number = ?

-- name: refold
-- The fold of a whole log; null leaves a column as it is, except the newest state.
UPDATE conversations SET
    last_state_id = ?,
    last_updated_at = coalesce(?, last_updated_at),
    accumulated_cost = coalesce(?, accumulated_cost),
    prompt_tokens = coalesce(?, prompt_tokens),
    completion_tokens = coalesce(?, completion_tokens),
    total_tokens = coalesce(?, total_tokens),
    last_message_at = coalesce(?, last_message_at)
WHERE conversation_id = ? AND next_id = ? AND deleted_at IS NULL

-- name: index_key
INSERT INTO client_ids (conversation, digest, event_id)
SELECT number, ?, ? FROM conversations WHERE conversation_id = ? AND deleted_at IS NULL
ON CONFLICT (conversation, digest) DO UPDATE SET event_id = excluded.event_id
