-- Workspaces at rest: a manifest for each conversation, and the blobs of its contents. Both are sealed: nothing is
-- left to compress.
CREATE TABLE parley.workspaces (
    number   bigint PRIMARY KEY,
    manifest bytea NOT NULL                             -- with a checksum
);

CREATE TABLE parley.workspace_blobs (
    number bigint NOT NULL,
    name   text COLLATE "C" NOT NULL,
    body   bytea NOT NULL,
    PRIMARY KEY (number, name)
);
ALTER TABLE parley.workspace_blobs ALTER body SET STORAGE EXTERNAL;
