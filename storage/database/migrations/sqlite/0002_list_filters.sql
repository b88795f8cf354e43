-- Lists by repository or trigger, newest first, without looking at the records that do not fit.
CREATE INDEX conversations_by_repository
    ON conversations (user_id, selected_repository, created_at DESC, conversation_id DESC)
    WHERE recorded = 1 AND deleted_at IS NULL AND selected_repository IS NOT NULL;

CREATE INDEX conversations_by_trigger
    ON conversations (user_id, trigger_kind, created_at DESC, conversation_id DESC)
    WHERE recorded = 1 AND deleted_at IS NULL AND trigger_kind IS NOT NULL;
