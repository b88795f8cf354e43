-- Checksums of what nothing else recomputes: records without their folded columns, usage, the audit. They
-- are those of the rows as they are found; `row_crc` is the function of storage/database/row_checksums.py.
ALTER TABLE conversations ADD COLUMN checksum INTEGER;      -- null where there is no record
ALTER TABLE usage_positions ADD COLUMN checksum INTEGER;
ALTER TABLE usage_lines ADD COLUMN checksum INTEGER;
ALTER TABLE audit ADD COLUMN checksum INTEGER;

-- Rows with the checksum that they have and the one that they should have, `computed`.
CREATE VIEW checked_records AS SELECT number, conversation_id, checksum, row_crc(
    CAST(conversation_id AS BLOB), CAST(user_id AS BLOB), CAST(created_at AS BLOB), CAST(title AS BLOB),
    CAST(selected_repository AS BLOB), CAST(selected_branch AS BLOB), CAST(git_provider AS BLOB),
    CAST(trigger_kind AS BLOB), CAST(pr_number AS BLOB), CAST(llm_model AS BLOB), CAST(sandbox_id AS BLOB),
    CAST(conversation_version AS BLOB), CAST(custom AS BLOB)
) AS computed FROM conversations WHERE recorded = 1 AND deleted_at IS NULL;

CREATE VIEW checked_usage_positions AS SELECT *, row_crc(
    CAST(conversation_id AS BLOB), CAST(user_id AS BLOB), CAST(position AS BLOB), cost,
    CAST(prompt_tokens AS BLOB), CAST(completion_tokens AS BLOB)
) AS computed FROM usage_positions;

CREATE VIEW checked_usage_lines AS SELECT *, row_crc(
    CAST(conversation_id AS BLOB), CAST(day AS BLOB), CAST(model AS BLOB), CAST(events AS BLOB),
    CAST(prompt_tokens AS BLOB), CAST(completion_tokens AS BLOB), cost
) AS computed FROM usage_lines;

CREATE VIEW checked_audit AS SELECT *, row_crc(CAST(acting AS BLOB), CAST(body AS BLOB)) AS computed FROM audit;

UPDATE conversations SET checksum = (SELECT computed FROM checked_records AS c WHERE c.number = conversations.number)
WHERE recorded = 1;

UPDATE usage_positions SET checksum = (
    SELECT computed FROM checked_usage_positions AS c WHERE c.conversation_id = usage_positions.conversation_id
);

UPDATE usage_lines SET checksum = (
    SELECT computed FROM checked_usage_lines AS c
    WHERE c.conversation_id = usage_lines.conversation_id AND c.day = usage_lines.day AND c.model = usage_lines.model
);

UPDATE audit SET checksum = (SELECT computed FROM checked_audit AS c WHERE c.id = audit.id);

-- Those of asides name the conversation and the aside from here on. A damaged one stays damaged.
UPDATE asides SET crc = (
    SELECT row_crc(CAST(conversation_id AS BLOB), CAST(name AS BLOB), body) FROM conversations WHERE number = conversation
)
WHERE typeof(body) = 'blob' AND crc = crc_32(body)
    AND EXISTS (SELECT 1 FROM conversations WHERE number = conversation);
