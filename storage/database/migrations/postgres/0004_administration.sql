-- What administration needs: lists of all owners, what was used, who did what.
CREATE INDEX records_by_id ON parley.records (conversation_id);

-- A conversation's events below `position` are counted. The rows outlive the conversation.
CREATE TABLE parley.usage_positions (
    conversation_id   text COLLATE "C" PRIMARY KEY,
    user_id           text COLLATE "C",
    position          integer NOT NULL,
    cost              double precision NOT NULL,        -- from here on: the newest sums seen
    prompt_tokens     bigint NOT NULL,
    completion_tokens bigint NOT NULL
);

CREATE TABLE parley.usage_lines (
    conversation_id   text COLLATE "C" NOT NULL,
    day               text COLLATE "C" NOT NULL,        -- ISO 8601, UTC
    model             text COLLATE "C" NOT NULL,        -- '' where an event names none
    events            bigint NOT NULL,
    prompt_tokens     bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    cost              double precision NOT NULL,
    PRIMARY KEY (conversation_id, day, model)
);
CREATE INDEX usage_lines_by_day ON parley.usage_lines (day);

CREATE TABLE parley.audit (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    acting integer NOT NULL,                            -- 1 for acts, 0 for looks and refusals
    body   text NOT NULL                                -- JSON, storage/audit/base.py: AuditRecord
);
CREATE INDEX audit_by_class ON parley.audit (acting, id);
