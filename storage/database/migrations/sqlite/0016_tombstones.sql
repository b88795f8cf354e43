-- Tombstones keep the id alone. Those of earlier versions still say whose a conversation was, and when.
UPDATE conversations SET
    user_id = NULL, created_at = NULL, git_provider = NULL, trigger_kind = NULL, pr_number = '[]',
    llm_model = NULL, sandbox_id = NULL, conversation_version = NULL, last_updated_at = NULL,
    last_message_at = NULL
WHERE deleted_at IS NOT NULL
    AND coalesce(user_id, created_at, llm_model, sandbox_id, last_updated_at, last_message_at) IS NOT NULL;
