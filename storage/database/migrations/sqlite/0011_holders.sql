-- Whose claim `fence` is the number of; null where nobody has claimed the log's loop yet.
ALTER TABLE conversations ADD COLUMN holder INTEGER;

-- As before, without a fence: appends that claim something are decided by a statement of their own,
-- and all others neither ask for a claim nor change it.
DROP TRIGGER append_event;
DROP VIEW appends;

CREATE VIEW appends AS SELECT
    number, conversation_id, next_id, 1 AS events, last_state_id, last_updated_at,
    accumulated_cost, prompt_tokens, completion_tokens, total_tokens, last_message_at,
    NULL AS version, NULL AS flag, NULL AS crc, NULL AS body, NULL AS digest
FROM conversations;

CREATE TRIGGER append_event INSTEAD OF INSERT ON appends BEGIN
    UPDATE conversations SET
        next_id = next_id + NEW.events,
        last_state_id = iif(NEW.last_state_id < 0, last_state_id, NEW.last_state_id),
        last_updated_at = iif(NEW.last_updated_at = '', last_updated_at, NEW.last_updated_at),
        accumulated_cost = iif(NEW.accumulated_cost < 0, accumulated_cost, NEW.accumulated_cost),
        prompt_tokens = iif(NEW.prompt_tokens < 0, prompt_tokens, NEW.prompt_tokens),
        completion_tokens = iif(NEW.completion_tokens < 0, completion_tokens, NEW.completion_tokens),
        total_tokens = iif(NEW.total_tokens < 0, total_tokens, NEW.total_tokens)
    WHERE number = iif(NEW.events > 0, NEW.number, NULL) AND conversation_id = NEW.conversation_id
        AND next_id = NEW.next_id AND deleted_at IS NULL;
    SELECT RAISE(ABORT, 'the log is not at that id') WHERE NEW.events > 0 AND changes() = 0;
    UPDATE conversations SET last_message_at = NEW.last_message_at
    WHERE number = iif(NEW.events > 0 AND NEW.last_message_at <> '', NEW.number, NULL);
    INSERT INTO arrivals (key, version, flag, crc, body)
    VALUES (NEW.number << 32 | NEW.next_id, NEW.version, NEW.flag, NEW.crc, NEW.body);
    INSERT INTO client_ids (conversation, digest, event_id)
    SELECT NEW.number, NEW.digest, NEW.next_id WHERE NEW.digest <> '';
END;
