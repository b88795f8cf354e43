-- kind: expand
-- What has changed since when, told by records without a look at their heads: the hour of the last update, as its text
-- begins, and whether there are events whose usage is not counted. An append changes a record once an hour, and once
-- after each count: the head, which it locks anyway, tells whether it has to. Heads are locked before records.
ALTER TABLE parley.heads ADD COLUMN counted boolean NOT NULL DEFAULT false;
ALTER TABLE parley.heads ALTER counted SET DEFAULT true;    -- of a new log there is nothing to count
ALTER TABLE parley.records
    ADD COLUMN updated_hour text COLLATE "C" NOT NULL DEFAULT '~',  -- sorts after all hours: perhaps just now
    ADD COLUMN uncounted boolean NOT NULL DEFAULT true;     -- the opposite of the head's `counted`

CREATE OR REPLACE VIEW parley.folded_records AS
SELECT
    r.number, r.conversation_id, r.user_id, r.created_at, r.title, r.selected_repository, r.selected_branch,
    r.git_provider, r.trigger_kind, r.pr_number, r.llm_model, r.sandbox_id, r.conversation_version, r.custom,
    h.last_updated_at, coalesce(h.accumulated_cost, 0) AS accumulated_cost,
    coalesce(h.prompt_tokens, 0) AS prompt_tokens, coalesce(h.completion_tokens, 0) AS completion_tokens,
    coalesce(h.total_tokens, 0) AS total_tokens, h.last_message_at, r.folded_title,
    r.message_hour, r.updated_hour
FROM parley.records r JOIN parley.heads h ON h.number = r.number AND h.state = 0;

-- The versions of the schema that the newest server works with.
CREATE TABLE parley.schema_use (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    schema_from integer NOT NULL,
    schema_to   integer NOT NULL,
    since       timestamptz NOT NULL
);

-- Have a record say what its head says. A statement of its own, so that it also sees a record that was committed
-- while its caller waited for the head.
CREATE FUNCTION parley.tell_record(number_ bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE parley.records r SET
        updated_hour = left(coalesce(h.last_updated_at, r.created_at), 13),
        message_hour = left(coalesce(h.last_message_at, r.created_at), 13),
        uncounted = NOT h.counted
    FROM parley.heads h WHERE h.number = number_ AND r.number = number_;
END $$;

-- Append one event without a key to a log that is there, for a third of what append_logs takes; return the log's
-- number, or null where it is refused, and then append_logs says why. Its condition is that of append_logs.
CREATE FUNCTION parley.append_one(
    number_ bigint, name text, expected integer, fence_ bigint, holder_ bigint, masks_ integer, state_id integer,
    moment text, cost double precision, prompt bigint, completion bigint, total bigint, said text,
    flag_ smallint, crc_ integer, body_ bytea
) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    place tid;
    tells boolean;
BEGIN
    SELECT h.ctid, h.counted OR left(moment, 13) <> coalesce(left(h.last_updated_at, 13), '')
        OR left(said, 13) <> coalesce(left(h.last_message_at, 13), '')
    INTO place, tells
    FROM parley.heads h
    WHERE h.number = number_ AND h.conversation_id = name AND h.next_id = expected AND h.state = 0
        AND (fence_ IS NULL OR h.fence IS NULL OR (h.fence, h.holder) = (fence_, holder_) OR h.fence < fence_)
        AND (masks_ IS NULL OR h.masks <= masks_)
    FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    UPDATE parley.heads h SET
        next_id = h.next_id + 1,
        last_state_id = coalesce(state_id, h.last_state_id),
        fence = coalesce(fence_, h.fence),
        holder = coalesce(holder_, h.holder),
        masks = coalesce(masks_, h.masks),
        last_updated_at = coalesce(moment, h.last_updated_at),
        accumulated_cost = coalesce(cost, h.accumulated_cost),
        prompt_tokens = coalesce(prompt, h.prompt_tokens),
        completion_tokens = coalesce(completion, h.completion_tokens),
        total_tokens = coalesce(total, h.total_tokens),
        last_message_at = coalesce(said, h.last_message_at),
        counted = false
    WHERE h.ctid = place;
    INSERT INTO parley.events (number, id, version, flag, crc, body) VALUES (number_, expected, 1, flag_, crc_, body_);
    IF tells THEN
        PERFORM parley.tell_record(number_);
    END IF;
    RETURN number_;
END $$;

-- As it was, but for what records are told.
CREATE OR REPLACE FUNCTION parley.append_logs(
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
    telling bigint[];
    one bigint;
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
        SELECT h.ctid AS tid, a.*, h.counted OR left(a.moment, 13) <> coalesce(left(h.last_updated_at, 13), '')
            OR left(a.said, 13) <> coalesce(left(h.last_message_at, 13), '') AS tells
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
            last_message_at = coalesce(l.said, h.last_message_at),
            counted = false
        FROM locked l WHERE h.ctid = l.tid
        RETURNING h.number, l.tells
    )
    SELECT coalesce(array_agg(done.number), '{}'), coalesce(array_agg(done.number) FILTER (WHERE done.tells), '{}')
    INTO moved, telling FROM done;
    FOREACH one IN ARRAY telling LOOP
        PERFORM parley.tell_record(one);
    END LOOP;
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
