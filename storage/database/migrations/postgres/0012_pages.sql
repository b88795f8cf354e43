-- kind: expand
-- Complete pages of logs: each one row in the place of those of its events, which is compressed and read as one. The
-- newest events stay rows, as appends write them.
ALTER TABLE parley.heads
    ADD COLUMN sealed integer NOT NULL DEFAULT 0,       -- the events below it are in pages, and no others
    -- A head that went back is refused the append that would give an id of a page a second time.
    ADD CONSTRAINT heads_sealed CHECK (next_id >= sealed) NOT VALID;

CREATE TABLE parley.pages (
    number   bigint NOT NULL,
    first_id integer NOT NULL,
    count    smallint NOT NULL CHECK (count BETWEEN 1 AND 100),
    -- Of each event: the flag in 2 bytes, of each: the checksum in 4, of each: the length in 4, then the bodies.
    body     bytea NOT NULL,
    PRIMARY KEY (number, first_id)
) PARTITION BY HASH (number);

DO $$ BEGIN FOR i IN 0..15 LOOP
    EXECUTE format('CREATE TABLE parley.pages_%s PARTITION OF parley.pages FOR VALUES WITH (MODULUS 16, REMAINDER %s)', i, i);
    -- Not every server is built with it.
    IF EXISTS (SELECT FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)) THEN
        EXECUTE format('ALTER TABLE parley.pages_%s ALTER body SET COMPRESSION lz4', i);
    END IF;
END LOOP; END $$;

-- A row says that whoever reads the schema knows pages; without it nothing is sealed. A contract brings it.
CREATE TABLE parley.sealing (only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row));

-- What a log is made of. A page has the version -1, and its number of events for a flag. `size` is the bytes of bodies,
-- which is known without a look into the page.
CREATE VIEW parley.log_parts AS
SELECT number, first_id AS id, first_id + count - 1 AS last_id, -1::smallint AS version, count AS flag, 0 AS crc, body,
    octet_length(body) - 10 * count AS size
FROM parley.pages
UNION ALL
SELECT number, id, id, version, flag, crc, body, octet_length(body) FROM parley.events;

-- Read the events from `begin_id` to `end_id` inclusive, as parts of which the first and the last may reach beyond; with
-- a limit, only as many parts as make the bodies that are asked for so long together, and at least one. A page that
-- begins before the range may reach into it; of that it is not known how much is asked for. A STABLE function sees all
-- of one moment. Its plans are made once for a connection: to choose among partitions takes the planner longer than the
-- reading takes.
CREATE FUNCTION parley.read_log(number_ bigint, name text, begin_id integer, end_id integer, limit_bytes bigint)
RETURNS TABLE (id integer, version smallint, flag smallint, crc integer, body bytea)
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    sealed_id integer;
BEGIN
    SELECT h.sealed INTO sealed_id FROM parley.heads h
    WHERE h.number = number_ AND h.conversation_id = name AND h.state = 0;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF end_id < sealed_id THEN
        version := -1;
        crc := 0;
        FOR id, flag, body IN
            SELECT p.first_id, p.count, p.body FROM parley.pages p
            WHERE p.number = number_ AND p.first_id BETWEEN begin_id - 99 AND end_id
                AND p.first_id + p.count > begin_id
            ORDER BY p.first_id
        LOOP
            RETURN NEXT;
            limit_bytes := limit_bytes - CASE WHEN id < begin_id THEN 0 ELSE octet_length(body) - 10 * flag END;
            EXIT WHEN limit_bytes <= 0;
        END LOOP;
    ELSIF limit_bytes IS NULL THEN
        RETURN QUERY
            SELECT p.id, p.version, p.flag, p.crc, p.body FROM parley.log_parts p
            WHERE p.number = number_ AND p.id BETWEEN begin_id - 99 AND end_id AND p.last_id >= begin_id
            ORDER BY p.id;
    ELSE
        RETURN QUERY
            SELECT f.id, f.version, f.flag, f.crc, f.body FROM (
                SELECT p.*, sum(CASE WHEN p.id < begin_id THEN 0 ELSE p.size END)
                    OVER (ORDER BY p.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
                FROM parley.log_parts p
                WHERE p.number = number_ AND p.id BETWEEN begin_id - 99 AND end_id AND p.last_id >= begin_id
            ) AS f
            WHERE (f.before < limit_bytes) IS NOT FALSE
            ORDER BY f.id;
    END IF;
END $$;

-- Seal the oldest page of a log that are rows, if another page behind it is complete; return whether it was. The rows go
-- in the transaction in which the page comes, so that each statement sees every event once. No append waits for this,
-- but for the moment in which the head is changed.
CREATE FUNCTION parley.seal_page(number_ bigint, page_events integer, page_bytes integer) RETURNS boolean
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    begin_id integer;
BEGIN
    -- A crash may undo it, which loses nothing; so it waits for no disk and no standby.
    PERFORM set_config('synchronous_commit', 'off', true), set_config('lock_timeout', '5s', true);
    -- Locked against a deletion, and against nothing else; see bury_log.
    SELECT h.sealed INTO begin_id FROM parley.heads h
    WHERE h.number = number_ AND h.state = 0
        AND h.next_id >= h.sealed + 2 * page_events
        AND EXISTS (SELECT FROM parley.sealing)
    FOR KEY SHARE OF h;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- Whoever has the page's first row seals it: another node that does is not waited for.
    PERFORM FROM parley.events e WHERE e.number = number_ AND e.id = begin_id FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- What is damaged stays as it is.
    IF page_events <> (
        SELECT count(*) FROM parley.events e
        WHERE e.number = number_ AND e.id BETWEEN begin_id AND begin_id + page_events - 1 AND e.version = 1
    ) THEN
        RETURN false;
    END IF;
    WITH taken AS (
        DELETE FROM parley.events e WHERE e.number = number_ AND e.id BETWEEN begin_id AND begin_id + page_events - 1
        RETURNING e.id, e.flag, e.crc, e.body
    ), measured AS (
        -- Long events make several pages of one, so that none is long.
        SELECT *, (sum(octet_length(body)) OVER (ORDER BY id) - octet_length(body)) / page_bytes AS part FROM taken
    )
    INSERT INTO parley.pages (number, first_id, count, body)
    SELECT number_, min(id), count(*),
        string_agg(int2send(flag), '' ORDER BY id) || string_agg(int4send(crc), '' ORDER BY id)
        || string_agg(int4send(octet_length(body)), '' ORDER BY id) || string_agg(body, '' ORDER BY id)
    FROM measured GROUP BY part;
    UPDATE parley.heads h SET sealed = begin_id + page_events WHERE h.number = number_;
    RETURN true;
END $$;
