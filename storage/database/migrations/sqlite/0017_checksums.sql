-- Checksums of what nothing else recomputes: records without their folded columns, usage, the audit. They
-- are those of the rows as they are found; `row_crc` is the function of storage/database/row_checksums.py.
ALTER TABLE conversations ADD COLUMN checksum INTEGER;      -- null where there is no record
ALTER TABLE usage_positions ADD COLUMN checksum INTEGER;
ALTER TABLE usage_lines ADD COLUMN checksum INTEGER;
ALTER TABLE audit ADD COLUMN checksum INTEGER;

UPDATE conversations SET checksum = row_crc(
    CAST(conversation_id AS BLOB), CAST(user_id AS BLOB), CAST(created_at AS BLOB), CAST(title AS BLOB),
    CAST(selected_repository AS BLOB), CAST(selected_branch AS BLOB), CAST(git_provider AS BLOB),
    CAST(trigger_kind AS BLOB), CAST(pr_number AS BLOB), CAST(llm_model AS BLOB), CAST(sandbox_id AS BLOB),
    CAST(conversation_version AS BLOB), CAST(custom AS BLOB)
) WHERE recorded = 1 AND deleted_at IS NULL;

UPDATE usage_positions SET checksum = row_crc(
    CAST(conversation_id AS BLOB), CAST(user_id AS BLOB), CAST(position AS BLOB), CAST(cost AS REAL),
    CAST(prompt_tokens AS BLOB), CAST(completion_tokens AS BLOB)
);

UPDATE usage_lines SET checksum = row_crc(
    CAST(conversation_id AS BLOB), CAST(day AS BLOB), CAST(model AS BLOB), CAST(events AS BLOB),
    CAST(prompt_tokens AS BLOB), CAST(completion_tokens AS BLOB), CAST(cost AS REAL)
);

UPDATE audit SET checksum = row_crc(CAST(acting AS BLOB), CAST(body AS BLOB));

-- Those of asides name the conversation and the aside from here on. A damaged one stays damaged.
UPDATE asides SET crc = (
    SELECT row_crc(CAST(conversation_id AS BLOB), CAST(name AS BLOB), body) FROM conversations WHERE number = conversation
)
WHERE typeof(body) = 'blob' AND crc = crc_32(body)
    AND EXISTS (SELECT 1 FROM conversations WHERE number = conversation);
