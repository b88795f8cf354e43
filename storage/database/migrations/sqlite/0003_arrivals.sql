-- Events in the order of their arrival, until they are put in their place: a commit of many
-- conversations' events writes a few pages here, and one page for each of them there.
CREATE TABLE arrivals (
    seq INTEGER PRIMARY KEY,
    key INTEGER NOT NULL,                                   -- from here on: as in events
    version INTEGER NOT NULL,
    flag INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    body BLOB NOT NULL
);

-- One row inserted here is one event appended: the head decides, as in the script of an append, and
-- the row fails when it does not fit. One statement can so be a whole commit of many conversations.
CREATE VIEW appends AS SELECT
    number, conversation_id, next_id, fence, last_state_id, last_updated_at, accumulated_cost,
    prompt_tokens, completion_tokens, total_tokens,
    NULL AS version, NULL AS flag, NULL AS crc, NULL AS body, NULL AS digest
FROM conversations;

CREATE TRIGGER append_event INSTEAD OF INSERT ON appends BEGIN
    UPDATE conversations SET
        next_id = next_id + 1,
        last_state_id = coalesce(NEW.last_state_id, last_state_id),
        fence = NEW.fence,
        last_updated_at = coalesce(NEW.last_updated_at, last_updated_at),
        accumulated_cost = coalesce(NEW.accumulated_cost, accumulated_cost),
        prompt_tokens = coalesce(NEW.prompt_tokens, prompt_tokens),
        completion_tokens = coalesce(NEW.completion_tokens, completion_tokens),
        total_tokens = coalesce(NEW.total_tokens, total_tokens)
    WHERE number = NEW.number AND conversation_id = NEW.conversation_id
        AND next_id = NEW.next_id AND fence <= NEW.fence AND deleted_at IS NULL;
    SELECT RAISE(ABORT, 'the log is not at that id') WHERE changes() = 0;
    INSERT INTO arrivals (key, version, flag, crc, body)
    VALUES (NEW.number << 32 | NEW.next_id, NEW.version, NEW.flag, NEW.crc, NEW.body);
    INSERT INTO client_ids (conversation, digest, event_id)
    SELECT NEW.number, NEW.digest, NEW.next_id WHERE NEW.digest IS NOT NULL;
END;
