-- Heads of logs, apart from the records of their conversations: one narrow row each, in no index that an append
-- changes, so that PostgreSQL updates the row in its place (HOT). Lists need indexes, which belong to the records.
CREATE TABLE parley.heads (
    number            bigint PRIMARY KEY,               -- 63 bits of SHA-256 of the id; also the key of partitions
    conversation_id   text COLLATE "C" NOT NULL,
    next_id           integer NOT NULL DEFAULT 0,
    last_state_id     integer,
    state             smallint NOT NULL DEFAULT 0,      -- 0 open, 1 deleted, 2 deleted and its rows dropped
    fence             bigint,                           -- the claim: its number, and who made it; null: none yet
    holder            bigint,
    masks             integer NOT NULL DEFAULT 0,
    epoch             uuid NOT NULL DEFAULT gen_random_uuid(),
    accumulated_cost  double precision,
    prompt_tokens     bigint,
    completion_tokens bigint,
    total_tokens      bigint,
    last_updated_at   text COLLATE "C",                 -- as the event says it, which must come back byte for byte
    last_message_at   text COLLATE "C",
    CHECK ((fence IS NULL) = (holder IS NULL))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);

-- Deletions that a crash has cut short. No append changes `state`, so that its updates stay HOT.
CREATE INDEX heads_to_purge ON parley.heads (number) WHERE state = 1;

CREATE TABLE parley.events (
    number  bigint NOT NULL,
    id      integer NOT NULL,
    version smallint NOT NULL,
    flag    smallint NOT NULL,
    crc     integer NOT NULL,                           -- CRC-32 of the body, seeded with the id, as a signed number
    body    bytea NOT NULL,
    PRIMARY KEY (number, id)
) PARTITION BY HASH (number);

CREATE TABLE parley.client_ids (
    number bigint NOT NULL,
    digest bytea NOT NULL,                              -- the first 16 bytes of the key's digest
    id     integer NOT NULL,
    PRIMARY KEY (number, digest)
) PARTITION BY HASH (number);

CREATE TABLE parley.asides (
    number bigint NOT NULL,
    name   text COLLATE "C" NOT NULL,
    crc    bigint NOT NULL,
    body   bytea NOT NULL,
    PRIMARY KEY (number, name)
);

-- A row that is changed to learn that all that was committed before is as durable as an answer promises.
CREATE TABLE parley.barrier (only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row), passed bigint NOT NULL DEFAULT 0)
    WITH (fillfactor = 50);
INSERT INTO parley.barrier DEFAULT VALUES;

DO $$ BEGIN FOR i IN 0..15 LOOP
    EXECUTE format('CREATE TABLE parley.events_%s PARTITION OF parley.events FOR VALUES WITH (MODULUS 16, REMAINDER %s)', i, i);
    -- Bodies are short JSON: to compress them costs each append more than the space is worth.
    EXECUTE format('ALTER TABLE parley.events_%s ALTER body SET STORAGE EXTERNAL', i);
    EXECUTE format('CREATE TABLE parley.client_ids_%s PARTITION OF parley.client_ids FOR VALUES WITH (MODULUS 16, REMAINDER %s)', i, i);
END LOOP; END $$;

-- Append to up to 100 logs, to each all or nothing; return a row for each that was refused. A log that another
-- transaction has locked is passed over, so that nobody waits for a lock and nobody can deadlock: its row names
-- nothing that refuses it, and the caller asks again. The same condition is in the query append_one.
CREATE FUNCTION parley.append_logs(
    numbers bigint[], names text[], expected integer[], counts integer[], fences bigint[], holders bigint[],
    masks_ integer[], states integer[], moments text[], costs double precision[], prompts bigint[], completions bigint[],
    totals bigint[], said text[],
    event_numbers bigint[], event_ids integer[], event_flags smallint[], event_crcs integer[], bodies bytea[],
    key_numbers bigint[], digests bytea[], key_ids integer[]
) RETURNS TABLE (number bigint, conversation_id text, next_id integer, state smallint, fence bigint, holder bigint,
                 masks integer, taken bytea[], taken_ids integer[])
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    moved bigint[];
    doubled bigint[] := '{}';
BEGIN
    IF 0 = ANY (expected) THEN
        -- In order of their numbers: two that make the same logs wait for each other, but never in a circle.
        INSERT INTO parley.heads (number, conversation_id)
        SELECT a.number, a.name FROM unnest(numbers, names, expected) AS a(number, name, expected)
        WHERE a.expected = 0 ORDER BY a.number ON CONFLICT DO NOTHING;
    END IF;
    IF cardinality(key_numbers) > 0 THEN
        -- LIMIT keeps it a probe of the index for each key, whatever the tables' statistics say.
        SELECT coalesce(array_agg(DISTINCT k.number), '{}') INTO doubled
        FROM unnest(key_numbers, digests) AS k(number, digest)
        CROSS JOIN LATERAL (
            SELECT FROM parley.client_ids c WHERE c.number = k.number AND c.digest = k.digest LIMIT 1
        ) AS hit;
    END IF;
    WITH locked AS MATERIALIZED (
        SELECT h.ctid AS tid, a.*
        FROM unnest(numbers, names, expected, counts, fences, holders, masks_, states, moments, costs, prompts,
                    completions, totals, said)
            AS a(number, name, expected, count, fence, holder, masks, state_id, moment, cost, prompt, completion,
                 total, said)
        JOIN parley.heads h ON h.number = a.number
        WHERE h.conversation_id = a.name AND h.next_id = a.expected AND h.state = 0
            AND (a.fence IS NULL OR h.fence IS NULL OR (h.fence, h.holder) = (a.fence, a.holder) OR h.fence < a.fence)
            AND (a.masks IS NULL OR h.masks <= a.masks)
            AND h.number <> ALL (doubled)
        ORDER BY h.number
        FOR NO KEY UPDATE OF h SKIP LOCKED
    ), done AS (
        UPDATE parley.heads h SET
            next_id = h.next_id + l.count,
            last_state_id = coalesce(l.state_id, h.last_state_id),
            fence = coalesce(l.fence, h.fence),
            holder = coalesce(l.holder, h.holder),
            masks = coalesce(l.masks, h.masks),
            last_updated_at = coalesce(l.moment, h.last_updated_at),
            accumulated_cost = coalesce(l.cost, h.accumulated_cost),
            prompt_tokens = coalesce(l.prompt, h.prompt_tokens),
            completion_tokens = coalesce(l.completion, h.completion_tokens),
            total_tokens = coalesce(l.total, h.total_tokens),
            last_message_at = coalesce(l.said, h.last_message_at)
        FROM locked l WHERE h.ctid = l.tid
        RETURNING h.number, l.said
    ), noted AS (
        -- Once an hour: lists by the last message have an index of the hours.
        UPDATE parley.records r SET message_hour = left(done.said, 13)
        FROM done WHERE r.number = done.number AND r.message_hour <> left(done.said, 13)
    ) SELECT coalesce(array_agg(done.number), '{}') INTO moved FROM done;
    IF cardinality(moved) = cardinality(numbers) THEN
        INSERT INTO parley.events (number, id, version, flag, crc, body)
        SELECT e.number, e.id, 1, e.flag, e.crc, e.body
        FROM unnest(event_numbers, event_ids, event_flags, event_crcs, bodies) AS e(number, id, flag, crc, body);
        INSERT INTO parley.client_ids (number, digest, id) SELECT * FROM unnest(key_numbers, digests, key_ids);
        RETURN;
    END IF;
    INSERT INTO parley.events (number, id, version, flag, crc, body)
    SELECT e.number, e.id, 1, e.flag, e.crc, e.body
    FROM unnest(event_numbers, event_ids, event_flags, event_crcs, bodies) AS e(number, id, flag, crc, body)
    WHERE e.number = ANY (moved);
    INSERT INTO parley.client_ids (number, digest, id)
    SELECT * FROM unnest(key_numbers, digests, key_ids) AS k(number, digest, id) WHERE k.number = ANY (moved);
    RETURN QUERY
        SELECT a.number, h.conversation_id, h.next_id, h.state, h.fence, h.holder, h.masks, t.digests, t.ids
        FROM unnest(numbers) AS a(number)
        LEFT JOIN parley.heads h ON h.number = a.number
        CROSS JOIN LATERAL (
            SELECT array_agg(c.digest) AS digests, array_agg(c.id) AS ids
            FROM unnest(key_numbers, digests) AS k(number, digest)
            JOIN parley.client_ids c ON c.number = k.number AND c.digest = k.digest
            WHERE k.number = a.number
        ) AS t
        WHERE a.number <> ALL (moved);
END $$;

-- Write the tombstone of a log, for ever. Waits for an append that is at work on it.
CREATE FUNCTION parley.bury_log(number_ bigint, name text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO parley.heads (number, conversation_id, state) VALUES (number_, name, 1) ON CONFLICT DO NOTHING;
    -- The whole lock, for which also those who write beside the log wait; see put_asides.
    PERFORM FROM parley.heads h WHERE h.number = number_ AND h.conversation_id = name FOR UPDATE;
    UPDATE parley.heads h SET state = 1 WHERE h.number = number_ AND h.conversation_id = name AND h.state = 0;
END $$;
