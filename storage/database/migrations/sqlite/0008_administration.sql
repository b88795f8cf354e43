-- What administration needs: lists of all owners, what was used, who did what.
CREATE INDEX conversations_of_everybody ON conversations (created_at DESC, conversation_id DESC)
    WHERE recorded = 1 AND deleted_at IS NULL;

-- A conversation's events below `position` are counted. The rows outlive the conversation.
CREATE TABLE usage_positions (
    conversation_id TEXT PRIMARY KEY,
    user_id TEXT,
    position INTEGER NOT NULL,
    cost REAL NOT NULL,                                     -- from here on: the newest sums seen
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE usage_lines (
    conversation_id TEXT NOT NULL,
    day TEXT NOT NULL,                                      -- ISO 8601, UTC
    model TEXT NOT NULL,                                    -- '' where an event names none
    events INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cost REAL NOT NULL,
    PRIMARY KEY (conversation_id, day, model)
) WITHOUT ROWID;

CREATE INDEX usage_lines_by_day ON usage_lines (day);

CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    acting INTEGER NOT NULL,                                -- 1 for acts, 0 for looks and refusals
    body TEXT NOT NULL                                      -- JSON, storage/audit/model.py
);

CREATE INDEX audit_by_class ON audit (acting, id);
