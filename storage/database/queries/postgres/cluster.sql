-- name: enter_node
INSERT INTO parley.nodes (incarnation, name, url, version, schema_from, schema_to) VALUES ($1, $2, $3, $4, $5, $6)

-- name: beat
-- Nothing comes back where the server was declared dead.
UPDATE parley.nodes SET beat = beat + 1, loops = $2, connections = $3, draining = $4, hears = $5
WHERE incarnation = $1 AND NOT ended RETURNING beat

-- name: living_nodes
SELECT incarnation, beat, name, url, version, loops, connections, draining, hears
FROM parley.nodes WHERE NOT ended ORDER BY name, incarnation

-- name: declare_dead
-- Only if it has said nothing since.
UPDATE parley.nodes SET ended = true WHERE incarnation = $1 AND beat = $2 AND NOT ended RETURNING name

-- name: leave_node
UPDATE parley.nodes SET ended = true WHERE incarnation = $1

-- name: forget_nodes
DELETE FROM parley.nodes n WHERE n.ended AND n.started_at < now() - interval '1 hour'
AND NOT EXISTS (SELECT FROM parley.loops l WHERE l.node = n.incarnation)

-- name: claim_loop
SELECT outcome, fence_number, node_name FROM parley.claim_loop($1, $2, $3, $4, $5, $6)

-- name: release_loop
DELETE FROM parley.loops WHERE number = parley.number_of($1) AND node = $2

-- name: take_over_loops
SELECT conversation_id, user_id, working FROM parley.take_over_loops($1, $2)

-- name: loops_of_node_to_stop
SELECT conversation_id FROM parley.loops WHERE node = $1 AND NOT waits AND stop_wanted

-- name: ask_to_stop
WITH waiting AS (DELETE FROM parley.loops WHERE number = parley.number_of($1) AND waits)
UPDATE parley.loops SET stop_wanted = true WHERE number = parley.number_of($1) AND NOT waits

-- name: users_in_line
SELECT DISTINCT user_id FROM parley.loops WHERE waits

-- name: find_loop
SELECT l.conversation_id, l.user_id, n.name, l.node, l.waits, l.working
FROM parley.loops l LEFT JOIN parley.nodes n ON n.incarnation = l.node AND NOT n.ended
WHERE l.number = parley.number_of($1)

-- name: list_loops
-- Those of one user, and of these conversations, or of all.
SELECT l.conversation_id, l.user_id, n.name, l.node, l.waits, l.working
FROM parley.loops l LEFT JOIN parley.nodes n ON n.incarnation = l.node AND NOT n.ended
WHERE ($1 OR l.user_id IS NOT DISTINCT FROM $2) AND ($3::text[] IS NULL OR l.conversation_id = ANY ($3))
ORDER BY l.since, l.number
