-- name: append_logs
SELECT * FROM parley.append_logs(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22
)

-- name: append_one
-- A function, whose plans PostgreSQL keeps, also for whoever comes through a pooler.
SELECT parley.append_one($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)

-- name: create_head
INSERT INTO parley.heads (number, conversation_id) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING number

-- name: lock_head
SELECT number FROM parley.heads WHERE number = $1 FOR NO KEY UPDATE

-- name: read_heads
SELECT asked.place, h.next_id, h.last_state_id, h.epoch::text, h.state, h.fence, h.holder, h.last_updated_at, h.masks,
    EXISTS (SELECT FROM parley.asides a WHERE a.number = h.number),
    coalesce(
        (SELECT e.id FROM parley.events e WHERE e.number = h.number ORDER BY e.id DESC LIMIT 1), h.sealed - 1
    ),
    h.sealed
FROM unnest($1::bigint[], $2::text[]) WITH ORDINALITY AS asked(number, name, place)
JOIN parley.heads h ON h.number = asked.number AND h.conversation_id = asked.name

-- name: read_events
SELECT id, version, flag, crc, body FROM parley.read_log($1, $2, $3, $4, $5)

-- name: read_ranges
-- OFFSET keeps it a probe of the indexes for each range, whatever the tables' statistics say.
SELECT asked.place, e.id, e.version, e.flag, e.crc, e.body
FROM unnest($1::bigint[], $2::text[], $3::integer[], $4::integer[]) WITH ORDINALITY
    AS asked(number, name, first_id, last_id, place)
JOIN parley.heads h ON h.number = asked.number AND h.conversation_id = asked.name AND h.state = 0
CROSS JOIN LATERAL (
    SELECT p.id, p.version, p.flag, p.crc, p.body FROM parley.log_parts p
    WHERE p.number = asked.number AND p.id BETWEEN asked.first_id - 99 AND asked.last_id
        AND p.last_id >= asked.first_id OFFSET 0
) AS e
ORDER BY asked.place, e.id

-- name: seal_page
SELECT parley.seal_page($1, $2, $3)

-- name: find_client_id
SELECT id FROM parley.client_ids
WHERE number = $1 AND digest = $2
    AND EXISTS (SELECT FROM parley.heads WHERE number = $1 AND conversation_id = $3 AND state = 0)

-- name: put_asides
-- The heads are locked against a deletion, and against nothing else; see bury_log.
WITH there AS MATERIALIZED (
    SELECT h.number FROM parley.heads h
    WHERE h.state = 0 AND EXISTS (
        SELECT FROM unnest($1::bigint[], $2::text[]) AS a(number, name)
        WHERE a.number = h.number AND a.name = h.conversation_id
    ) AND h.number = ANY ($1::bigint[])
    ORDER BY h.number FOR KEY SHARE
), dropped AS (
    DELETE FROM parley.asides USING unnest($1::bigint[], $3::text[], $5::bytea[]) AS a(number, name, body)
    WHERE asides.number = a.number AND asides.name = a.name AND a.body IS NULL
        AND asides.number IN (SELECT number FROM there)
)
INSERT INTO parley.asides (number, name, crc, body)
SELECT a.number, a.name, a.crc, a.body
FROM unnest($1::bigint[], $3::text[], $4::bigint[], $5::bytea[]) AS a(number, name, crc, body)
WHERE a.body IS NOT NULL AND a.number IN (SELECT number FROM there)
ON CONFLICT (number, name) DO UPDATE SET crc = excluded.crc, body = excluded.body

-- name: read_asides
SELECT name, crc, body FROM parley.asides
WHERE number = $1 AND EXISTS (SELECT FROM parley.heads WHERE number = $1 AND conversation_id = $2 AND state = 0)

-- name: refold
-- The fold of a whole log; null leaves a column as it is, except the newest state.
WITH folded AS (
    UPDATE parley.heads SET
        last_state_id = $4::integer,
        last_updated_at = coalesce($5::text, last_updated_at),
        accumulated_cost = coalesce($6::double precision, accumulated_cost),
        prompt_tokens = coalesce($7::bigint, prompt_tokens),
        completion_tokens = coalesce($8::bigint, completion_tokens),
        total_tokens = coalesce($9::bigint, total_tokens),
        last_message_at = coalesce($10::text, last_message_at)
    WHERE number = $1 AND conversation_id = $2 AND next_id = $3 AND state = 0
    RETURNING number, last_message_at, last_updated_at
)
UPDATE parley.records r SET
    message_hour = left(coalesce(folded.last_message_at, r.created_at), 13),
    updated_hour = left(coalesce(folded.last_updated_at, r.created_at), 13)
FROM folded WHERE r.number = folded.number

-- name: index_keys
INSERT INTO parley.client_ids (number, digest, id)
SELECT h.number, k.digest, k.id
FROM parley.heads h CROSS JOIN unnest($3::bytea[], $4::integer[]) AS k(digest, id)
WHERE h.number = $1 AND h.conversation_id = $2 AND h.state = 0
ON CONFLICT (number, digest) DO UPDATE SET id = excluded.id

-- name: bury_log
SELECT parley.bury_log($1, $2)

-- name: purge_events
WITH due AS (
    SELECT id FROM parley.events
    WHERE number = $1 AND EXISTS (SELECT FROM parley.heads WHERE number = $1 AND state > 0) LIMIT $2
), dropped AS (
    DELETE FROM parley.events WHERE number = $1 AND id IN (SELECT id FROM due) RETURNING id
)
SELECT count(*) FROM dropped

-- name: purge_pages
WITH due AS (
    SELECT first_id FROM parley.pages
    WHERE number = $1 AND EXISTS (SELECT FROM parley.heads WHERE number = $1 AND state > 0) LIMIT $2
), dropped AS (
    DELETE FROM parley.pages WHERE number = $1 AND first_id IN (SELECT first_id FROM due) RETURNING first_id
)
SELECT count(*) FROM dropped

-- name: purge_rest
WITH purged AS (
    UPDATE parley.heads SET state = 2, last_state_id = NULL WHERE number = $1 AND state = 1 RETURNING number
), keys AS (
    DELETE FROM parley.client_ids WHERE number = $1 AND EXISTS (SELECT FROM purged)
), manifest AS (
    DELETE FROM parley.workspaces WHERE number = $1 AND EXISTS (SELECT FROM purged)
), blobs AS (
    DELETE FROM parley.workspace_blobs WHERE number = $1 AND EXISTS (SELECT FROM purged)
)
DELETE FROM parley.asides WHERE number = $1 AND EXISTS (SELECT FROM purged)

-- name: unpurged_logs
SELECT number FROM parley.heads WHERE state = 1

-- name: pass_barrier
UPDATE parley.barrier SET passed = passed + 1

-- name: read_promises
SELECT current_setting('fsync') = 'on', current_setting('synchronous_commit') <> 'off', pg_is_in_recovery(),
    current_setting('server_version_num')::integer

-- name: identify_host
-- The control file knows of a promotion only after a checkpoint; the name of a segment at once.
SELECT current_setting('transaction_read_only') = 'on', (SELECT system_identifier FROM pg_control_system()),
    CASE WHEN NOT pg_is_in_recovery() THEN ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer END

-- name: reach
SELECT pg_is_in_recovery()
