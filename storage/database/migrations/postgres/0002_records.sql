-- Records of conversations, apart from their heads: lists need indexes, and an append must not change one. What is
-- folded from the log stands in the head. Moments are texts of one width, in whose order they sort.
CREATE TABLE parley.records (
    number               bigint PRIMARY KEY,
    conversation_id      text COLLATE "C" NOT NULL,
    user_id              text COLLATE "C",
    created_at           text COLLATE "C" NOT NULL,
    title                text COLLATE "C",
    folded_title         text COLLATE "C",              -- in the form in which titles are searched
    selected_repository  text COLLATE "C",
    selected_branch      text COLLATE "C",
    git_provider         text COLLATE "C",
    trigger_kind         text COLLATE "C",
    pr_number            text NOT NULL DEFAULT '[]',    -- JSON list of integers
    llm_model            text COLLATE "C",
    sandbox_id           text COLLATE "C",
    conversation_version text COLLATE "C",
    custom               text NOT NULL DEFAULT '{}',    -- JSON object
    -- The hour of the last message, else of the creation, as its text begins: an append changes it once an hour.
    message_hour         text COLLATE "C" NOT NULL
);
CREATE INDEX records_by_owner ON parley.records (user_id, created_at DESC, conversation_id DESC);
CREATE INDEX records_by_repository
    ON parley.records (user_id, selected_repository, created_at DESC, conversation_id DESC)
    WHERE selected_repository IS NOT NULL;
CREATE INDEX records_by_trigger ON parley.records (user_id, trigger_kind, created_at DESC, conversation_id DESC)
    WHERE trigger_kind IS NOT NULL;
CREATE INDEX records_by_message ON parley.records (user_id, message_hour DESC);
CREATE INDEX records_of_everybody ON parley.records (created_at DESC, conversation_id DESC);

-- The number of a conversation, as the event store computes it: 63 bits of the SHA-256 of its id.
CREATE FUNCTION parley.number_of(conversation_id text) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT (('x' || encode(substr(sha256(convert_to(conversation_id, 'UTF8')), 1, 8), 'hex'))::bit(64) >> 1)::bigint
$$;

-- Records with what is folded from their logs, without the deleted ones.
CREATE VIEW parley.folded_records AS
SELECT
    r.number, r.conversation_id, r.user_id, r.created_at, r.title, r.selected_repository, r.selected_branch,
    r.git_provider, r.trigger_kind, r.pr_number, r.llm_model, r.sandbox_id, r.conversation_version, r.custom,
    h.last_updated_at, coalesce(h.accumulated_cost, 0) AS accumulated_cost,
    coalesce(h.prompt_tokens, 0) AS prompt_tokens, coalesce(h.completion_tokens, 0) AS completion_tokens,
    coalesce(h.total_tokens, 0) AS total_tokens, h.last_message_at, r.folded_title,
    r.message_hour
FROM parley.records r JOIN parley.heads h ON h.number = r.number AND h.state = 0;

CREATE OR REPLACE FUNCTION parley.bury_log(number_ bigint, name text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO parley.heads (number, conversation_id, state) VALUES (number_, name, 1) ON CONFLICT DO NOTHING;
    -- The whole lock, for which also those who write beside the log wait; see put_asides.
    PERFORM FROM parley.heads h WHERE h.number = number_ AND h.conversation_id = name FOR UPDATE;
    UPDATE parley.heads h SET state = 1 WHERE h.number = number_ AND h.conversation_id = name AND h.state = 0;
    DELETE FROM parley.records r WHERE r.number = number_ AND r.conversation_id = name;
END $$;
