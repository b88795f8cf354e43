-- Workspaces at rest: a manifest for each conversation, and the blobs of its contents.
CREATE TABLE workspaces (
    conversation INTEGER PRIMARY KEY,
    manifest BLOB NOT NULL                                  -- with a checksum
);

CREATE TABLE workspace_blobs (
    conversation INTEGER NOT NULL,
    name TEXT NOT NULL,                                     -- SHA-256 of body, in hexadecimal digits
    body BLOB NOT NULL,
    PRIMARY KEY (conversation, name)
);
