-- Kept workspaces: manifests and blobs.

-- name: read_workspace
-- A conversation's number, whether it is deleted, the manifest of its workspace, null where none is kept, and
-- whether there are blobs.
SELECT number, deleted_at, manifest,
    EXISTS (SELECT 1 FROM workspace_blobs WHERE workspace_blobs.conversation = number)
FROM conversations LEFT JOIN workspaces ON conversation = number
WHERE conversation_id = ?

-- name: workspace_blobs
SELECT name FROM workspace_blobs WHERE conversation = ?

-- name: read_workspace_blobs
-- Some blobs of a conversation that is not deleted.
SELECT name, body
FROM conversations JOIN workspace_blobs ON conversation = number
WHERE conversation_id = ? AND deleted_at IS NULL AND name IN (SELECT value FROM json_each(?))

-- name: put_workspace_blob
INSERT INTO workspace_blobs (conversation, name, body)
SELECT number, ?, ? FROM conversations WHERE conversation_id = ? AND deleted_at IS NULL
ON CONFLICT (conversation, name) DO UPDATE SET body = excluded.body

-- name: put_workspace
INSERT INTO workspaces (conversation, manifest)
SELECT number, ? FROM conversations WHERE conversation_id = ? AND deleted_at IS NULL
ON CONFLICT (conversation) DO UPDATE SET manifest = excluded.manifest

-- name: drop_workspace_blobs
DELETE FROM workspace_blobs
WHERE conversation = (SELECT number FROM conversations WHERE conversation_id = ?)
    AND name IN (SELECT value FROM json_each(?))

-- name: purge_workspace_blobs
DELETE FROM workspace_blobs
WHERE rowid IN (SELECT rowid FROM workspace_blobs WHERE conversation = ? LIMIT ?)

-- name: purge_workspace
DELETE FROM workspaces WHERE conversation = ?

-- name: all_workspaces
-- Every kept workspace, with the names of its blobs as a JSON list.
SELECT conversation_id, manifest, (
    SELECT json_group_array(name) FROM workspace_blobs WHERE workspace_blobs.conversation = number
)
FROM workspaces JOIN conversations ON conversation = number AND deleted_at IS NULL

-- name: all_workspace_blobs
SELECT conversation_id, name, body
FROM workspace_blobs JOIN conversations ON conversation = number AND deleted_at IS NULL
