-- Kept workspaces: manifests and blobs. What is written holds the head against a deletion; see bury_log. Rows are
-- returned where their number is asked for.

-- name: read_workspace
-- A conversation's number, not null where it is deleted, the manifest of its workspace, null where none is kept, and
-- whether there are blobs.
SELECT h.number, nullif(h.state > 0, FALSE), w.manifest,
    EXISTS (SELECT FROM parley.workspace_blobs b WHERE b.number = h.number)
FROM parley.heads h LEFT JOIN parley.workspaces w ON w.number = h.number
WHERE h.number = parley.number_of($1) AND h.conversation_id = $1

-- name: workspace_blobs
SELECT name FROM parley.workspace_blobs WHERE number = $1

-- name: read_workspace_blobs
-- Some blobs of a conversation that is not deleted.
SELECT b.name, b.body
FROM parley.heads h JOIN parley.workspace_blobs b ON b.number = h.number
WHERE h.number = parley.number_of($1) AND h.conversation_id = $1 AND h.state = 0
    AND b.name IN (SELECT json_array_elements_text($2::json))

-- name: put_workspace_blob
WITH there AS MATERIALIZED (
    SELECT number FROM parley.heads
    WHERE number = parley.number_of($3) AND conversation_id = $3 AND state = 0 FOR KEY SHARE
)
INSERT INTO parley.workspace_blobs (number, name, body) SELECT number, $1, $2 FROM there
ON CONFLICT (number, name) DO UPDATE SET body = excluded.body RETURNING number

-- name: put_workspace
WITH there AS MATERIALIZED (
    SELECT number FROM parley.heads
    WHERE number = parley.number_of($2) AND conversation_id = $2 AND state = 0 FOR KEY SHARE
)
INSERT INTO parley.workspaces (number, manifest) SELECT number, $1 FROM there
ON CONFLICT (number) DO UPDATE SET manifest = excluded.manifest RETURNING number

-- name: drop_workspace_blobs
DELETE FROM parley.workspace_blobs
WHERE number = (SELECT number FROM parley.heads WHERE number = parley.number_of($1) AND conversation_id = $1)
    AND name IN (SELECT json_array_elements_text($2::json))
RETURNING number

-- name: purge_workspace_blobs
DELETE FROM parley.workspace_blobs
WHERE number = $1 AND name IN (SELECT name FROM parley.workspace_blobs WHERE number = $1 LIMIT $2)
RETURNING number

-- name: purge_workspace
DELETE FROM parley.workspaces WHERE number = $1 RETURNING number
