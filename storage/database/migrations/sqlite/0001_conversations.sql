-- A conversation: the head of its log, which decides every append, and its record.
CREATE TABLE conversations (
    number INTEGER PRIMARY KEY,                             -- upper half of the keys of its events
    conversation_id TEXT NOT NULL UNIQUE,
    next_id INTEGER NOT NULL DEFAULT 0,
    last_state_id INTEGER,
    epoch TEXT NOT NULL DEFAULT (lower(hex(randomblob(8)))),
    fence INTEGER NOT NULL DEFAULT 0,
    deleted_at TEXT,                                        -- tombstone: the row stays, its id is spent
    purged INTEGER NOT NULL DEFAULT 0,                      -- the deleted log's events are gone
    recorded INTEGER NOT NULL DEFAULT 0,                    -- the columns below were saved as a record
    user_id TEXT,
    created_at TEXT,
    title TEXT,
    selected_repository TEXT,
    selected_branch TEXT,
    git_provider TEXT,
    trigger_kind TEXT,
    pr_number TEXT NOT NULL DEFAULT '[]',                   -- JSON list of integers
    llm_model TEXT,
    sandbox_id TEXT,
    conversation_version TEXT,
    custom TEXT NOT NULL DEFAULT '{}',                      -- JSON object
    last_updated_at TEXT,                                   -- from here on: the fold of the log
    accumulated_cost REAL NOT NULL DEFAULT 0,
    prompt_tokens INTEGER NOT NULL DEFAULT 0,
    completion_tokens INTEGER NOT NULL DEFAULT 0,
    total_tokens INTEGER NOT NULL DEFAULT 0
);

CREATE INDEX conversations_by_owner ON conversations (user_id, created_at DESC, conversation_id DESC)
    WHERE recorded = 1 AND deleted_at IS NULL;

CREATE INDEX conversations_to_purge ON conversations (number) WHERE deleted_at IS NOT NULL AND purged = 0;

CREATE TABLE events (
    key INTEGER PRIMARY KEY,                                -- conversation number << 32 | event id
    version INTEGER NOT NULL,                               -- format of body
    flag INTEGER NOT NULL,
    crc INTEGER NOT NULL,                                   -- CRC-32 of body, seeded with the event id
    body BLOB NOT NULL
);

CREATE TABLE client_ids (
    conversation INTEGER NOT NULL,
    digest BLOB NOT NULL,                                   -- SHA-256 of the client's idempotency key
    event_id INTEGER NOT NULL,
    PRIMARY KEY (conversation, digest)
) WITHOUT ROWID;
