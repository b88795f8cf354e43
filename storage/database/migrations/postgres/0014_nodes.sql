-- kind: expand
-- The servers that share this schema. One that says nothing for too long is declared dead by another, for good: its
-- next life has another incarnation.
CREATE TABLE parley.nodes (
    incarnation bigint PRIMARY KEY,                     -- 63 random bits, drawn at every start
    name        text NOT NULL,
    url         text,                                   -- where the others reach it; null: nowhere
    version     text NOT NULL,
    beat        bigint NOT NULL DEFAULT 0,
    ended       boolean NOT NULL DEFAULT false,
    loops       integer NOT NULL DEFAULT 0,             -- that it runs
    connections integer NOT NULL DEFAULT 0,             -- of clients
    draining    boolean NOT NULL DEFAULT false,
    hears       boolean NOT NULL DEFAULT false,         -- the others, by its doorbell
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);

-- Agent loops that a server holds, or that wait for a slot of their user.
CREATE TABLE parley.loops (
    number          bigint PRIMARY KEY,                 -- of the conversation's id
    conversation_id text COLLATE "C" NOT NULL,
    user_id         text COLLATE "C",
    node            bigint NOT NULL,                    -- the incarnation that holds it, or that asked for it
    waits           boolean NOT NULL,
    working         boolean NOT NULL,
    stop_wanted     boolean NOT NULL DEFAULT false,
    since           timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 70);
CREATE INDEX loops_by_node ON parley.loops (node);
CREATE INDEX loops_by_user ON parley.loops (user_id);

-- Claim a loop for a server, and say what became of it: 'held' with the number of its fence, 'other' with the name of
-- the server that lives and holds it, 'waits' for a slot of its user, 'gone' with its log, with the server, or, for one that
-- is `in_line` already, with its row. Claims of a
-- user come one after the other, so that there are never more loops than slots. Order of locks: nodes, users, loops, heads.
CREATE FUNCTION parley.claim_loop(
    claimed text, of_user text, by_node bigint, slots integer, has_work boolean, in_line boolean,
    OUT outcome text, OUT fence_number bigint, OUT node_name text
) LANGUAGE plpgsql AS $$
DECLARE
    log bigint := parley.number_of(claimed);
    known parley.loops;
BEGIN
    PERFORM FROM parley.nodes WHERE incarnation = by_node AND NOT ended FOR KEY SHARE;
    IF NOT FOUND THEN outcome := 'gone'; RETURN; END IF;
    PERFORM pg_advisory_xact_lock(parley.number_of('loops of ' || coalesce('user ' || of_user, 'nobody')));
    SELECT * INTO known FROM parley.loops WHERE number = log FOR UPDATE;
    IF in_line AND known.number IS NULL THEN outcome := 'gone'; RETURN; END IF;
    IF known.number IS NOT NULL AND NOT known.waits AND known.node <> by_node THEN
        SELECT name INTO node_name FROM parley.nodes WHERE incarnation = known.node AND NOT ended;
        IF FOUND THEN
            UPDATE parley.loops SET working = true WHERE number = log AND has_work AND NOT working;
            outcome := 'other'; RETURN;
        END IF;
    END IF;
    IF (known.number IS NULL OR known.waits) AND slots <= (
        SELECT count(*) FROM parley.loops l WHERE l.user_id IS NOT DISTINCT FROM of_user AND NOT l.waits
    ) THEN
        INSERT INTO parley.loops (number, conversation_id, user_id, node, waits, working)
        VALUES (log, claimed, of_user, by_node, true, has_work)
        ON CONFLICT (number) DO UPDATE SET node = by_node, working = loops.working OR has_work;
        outcome := 'waits'; RETURN;
    END IF;
    UPDATE parley.heads h SET fence = coalesce(h.fence, 0) + 1, holder = by_node
    WHERE h.number = log AND h.conversation_id = claimed AND h.state = 0 RETURNING h.fence INTO fence_number;
    IF NOT FOUND THEN
        DELETE FROM parley.loops WHERE number = log;
        outcome := 'gone'; RETURN;
    END IF;
    INSERT INTO parley.loops (number, conversation_id, user_id, node, waits, working)
    VALUES (log, claimed, of_user, by_node, false, has_work)
    ON CONFLICT (number) DO UPDATE SET
        node = by_node, waits = false, working = loops.working OR has_work, stop_wanted = false, since = clock_timestamp();
    outcome := 'held';
END $$;

-- Claim loops of servers that are dead, at most so many, those at work first. Loops that another server takes over at
-- the same moment are passed over. What stands in line for a dead one leaves it, and comes back to be put in line anew.
CREATE FUNCTION parley.take_over_loops(by_node bigint, most integer)
RETURNS TABLE (conversation_id text, user_id text, working boolean) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM FROM parley.nodes WHERE incarnation = by_node AND NOT ended FOR KEY SHARE;
    IF NOT FOUND THEN RETURN; END IF;
    RETURN QUERY
    WITH left_over AS (
        SELECT l.number, l.waits FROM parley.loops l
        WHERE NOT EXISTS (SELECT FROM parley.nodes n WHERE n.incarnation = l.node AND NOT n.ended)
        ORDER BY l.working DESC, l.number LIMIT most FOR UPDATE OF l SKIP LOCKED
    ), moved AS (
        UPDATE parley.heads h SET fence = coalesce(h.fence, 0) + 1, holder = by_node
        FROM left_over o WHERE h.number = o.number AND h.state = 0 AND NOT o.waits
        RETURNING h.number
    ), dropped AS (
        DELETE FROM parley.loops l USING left_over o
        WHERE l.number = o.number AND o.number NOT IN (SELECT number FROM moved)
        RETURNING l.conversation_id, l.user_id, l.working, l.waits
    ), taken AS (
        UPDATE parley.loops l SET node = by_node, stop_wanted = false, since = clock_timestamp()
        FROM moved m WHERE l.number = m.number RETURNING l.conversation_id, l.user_id, l.working
    )
    SELECT t.conversation_id, t.user_id, t.working FROM taken t
    UNION ALL SELECT d.conversation_id, d.user_id, d.working FROM dropped d WHERE d.waits;
END $$;
