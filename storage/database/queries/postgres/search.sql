-- The index of full-text search; its tables are made by storage/search/postgres.py. An owner is known by the number of
-- his id, and -1 stands for no owner; places are told apart within one owner.

-- name: search_version
-- 1 the table of logs
SELECT obj_description(to_regclass($1::text), 'pg_class')

-- name: search_states
SELECT conversation_id, owner, next_id, epoch, mark, title
FROM parley.search_logs WHERE conversation_id = ANY ($1::text[])

-- name: search_conversations
SELECT conversation_id FROM parley.search_logs WHERE conversation_id > $1 ORDER BY conversation_id LIMIT $2

-- name: search_erase
WITH gone AS (
    DELETE FROM parley.search_logs WHERE conversation_id = ANY ($1::text[]) RETURNING number
)
DELETE FROM parley.search_entries WHERE log IN (SELECT number FROM gone)

-- name: search_clear
TRUNCATE parley.search_entries, parley.search_logs

-- name: search_drop
-- 1 logs, 2 events of each
DELETE FROM parley.search_entries e USING unnest($1::bigint[], $2::integer[]) AS gone (log, event_id)
WHERE e.log = gone.log AND e.event_id = gone.event_id

-- name: search_save
INSERT INTO parley.search_logs (number, conversation_id, owner, next_id, epoch, mark, title)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::integer[], $5::text[], $6::bigint[], $7::text[])
ON CONFLICT (number) DO UPDATE SET
    owner = excluded.owner, next_id = excluded.next_id, epoch = excluded.epoch, mark = excluded.mark,
    title = excluded.title

-- name: search_taken
-- 1 owners, 2 places; of those that are taken, with the end of the places that are taken from each on without a gap.
SELECT asked.owner, asked.place, (
    SELECT e.place + 1 FROM parley.search_entries e
    WHERE e.owner = asked.owner AND e.place >= asked.place AND NOT EXISTS (
        SELECT FROM parley.search_entries next WHERE next.owner = e.owner AND next.place = e.place + 1
    )
    ORDER BY e.place LIMIT 1
)
FROM unnest($1::bigint[], $2::bigint[]) AS asked (owner, place)
WHERE EXISTS (SELECT FROM parley.search_entries e WHERE e.owner = asked.owner AND e.place = asked.place)

-- name: search_add
INSERT INTO parley.search_entries (owner, place, log, event_id, source, kind, words)
SELECT * FROM unnest(
    $1::bigint[], $2::bigint[], $3::bigint[], $4::integer[], $5::text[], $6::text[], $7::text[]
)

-- name: search_newest
-- Entries among the newest, read in their order until there are enough. Each row begins with whether there are older ones
-- than were looked at, and there is one row at least. An entry whose log is another's has no conversation.
-- 1 the owner's number, 2 his id, 3 the first place, 4 the end of places, 5 a pattern of each phrase, 6 the log, 7 the
-- source, 8 the kind, 9 how many entries are looked at, 10 how many are returned
SELECT rest.is_more, found.place,
    (SELECT l.conversation_id FROM parley.search_logs l
     WHERE l.number = found.log AND l.owner IS NOT DISTINCT FROM $2) AS conversation_id,
    found.event_id
FROM (
    SELECT EXISTS (
        SELECT FROM parley.search_entries
        WHERE owner = $1 AND place >= $3 AND place < $4
        ORDER BY place DESC OFFSET $9 LIMIT 1
    ) AS is_more
) AS rest
LEFT JOIN (
    SELECT e.place, e.log, e.event_id
    FROM (
        SELECT place, log, event_id, source, kind, words FROM parley.search_entries
        WHERE owner = $1 AND place >= $3 AND place < $4
        ORDER BY place DESC LIMIT $9
    ) AS e
    WHERE e.words LIKE ALL ($5::text[]) AND ($6::bigint IS NULL OR e.log = $6)
        AND ($7::text IS NULL OR e.source = $7) AND ($8::text IS NULL OR e.kind = $8)
    ORDER BY e.place DESC LIMIT $10
) AS found ON true
ORDER BY found.place DESC

-- name: search_by_words
-- Entries that the index of words finds. Each row begins with the number of candidates, of which there is one row at
-- least; where they are more than are read, none is returned. An entry whose log is another's has no conversation.
-- 1 the owner's number, 2 his id, 3 the first place, 4 the end of places, 5 a pattern of each phrase, 6 words and
-- filters, 7 the greatest number of candidates that are read, 8 how many are returned
WITH candidates AS MATERIALIZED (
    SELECT place, log, event_id,
        owner = $1 AND place >= $3 AND place < $4 AND words LIKE ALL ($5::text[]) AS fits
    FROM parley.search_entries
    WHERE parley.search_lexemes(owner, log, source, kind, words) @@ $6::text::tsquery
    LIMIT $7::integer + 1
), counted AS MATERIALIZED (
    SELECT count(*) AS candidates FROM candidates
)
SELECT counted.candidates, found.place,
    (SELECT l.conversation_id FROM parley.search_logs l
     WHERE l.number = found.log AND l.owner IS NOT DISTINCT FROM $2) AS conversation_id,
    found.event_id
FROM counted
LEFT JOIN (
    SELECT c.place, c.log, c.event_id FROM candidates c
    WHERE c.fits AND (SELECT candidates FROM counted) <= $7::integer
    ORDER BY c.place DESC LIMIT $8
) AS found ON true
ORDER BY found.place DESC
