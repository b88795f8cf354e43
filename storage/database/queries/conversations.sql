-- name: read_claim
SELECT user_id, recorded, deleted_at IS NOT NULL FROM conversations WHERE conversation_id = ?

-- name: deleted_conversations
SELECT conversation_id FROM conversations
WHERE deleted_at IS NOT NULL AND conversation_id > ? ORDER BY conversation_id LIMIT ?

-- name: write_record
-- Once the log has events, the folded columns are its own. A record that fails its checksum goes on failing it.
INSERT INTO conversations (
    recorded, conversation_id, user_id, created_at, title, selected_repository, selected_branch, git_provider,
    trigger_kind, pr_number, llm_model, sandbox_id, conversation_version, custom,
    last_updated_at, accumulated_cost, prompt_tokens, completion_tokens, total_tokens, last_message_at, folded_title,
    checksum
) VALUES (
    1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
    row_crc(
        CAST(?1 AS BLOB), CAST(?2 AS BLOB), CAST(?3 AS BLOB), CAST(?4 AS BLOB), CAST(?5 AS BLOB), CAST(?6 AS BLOB),
        CAST(?7 AS BLOB), CAST(?8 AS BLOB), CAST(?9 AS BLOB), CAST(?10 AS BLOB), CAST(?11 AS BLOB), CAST(?12 AS BLOB),
        CAST(?13 AS BLOB)
    )
)
ON CONFLICT (conversation_id) DO UPDATE SET
    checksum = iif(
        EXISTS (SELECT 1 FROM checked_records AS c WHERE c.number = conversations.number AND c.checksum IS NOT c.computed),
        checksum, excluded.checksum
    ),
    recorded = 1,
    user_id = excluded.user_id,
    created_at = excluded.created_at,
    title = excluded.title,
    folded_title = excluded.folded_title,
    selected_repository = excluded.selected_repository,
    selected_branch = excluded.selected_branch,
    git_provider = excluded.git_provider,
    trigger_kind = excluded.trigger_kind,
    pr_number = excluded.pr_number,
    llm_model = excluded.llm_model,
    sandbox_id = excluded.sandbox_id,
    conversation_version = excluded.conversation_version,
    custom = excluded.custom,
    last_updated_at = CASE WHEN next_id > 0 THEN last_updated_at ELSE excluded.last_updated_at END,
    accumulated_cost = CASE WHEN next_id > 0 THEN accumulated_cost ELSE excluded.accumulated_cost END,
    prompt_tokens = CASE WHEN next_id > 0 THEN prompt_tokens ELSE excluded.prompt_tokens END,
    completion_tokens = CASE WHEN next_id > 0 THEN completion_tokens ELSE excluded.completion_tokens END,
    total_tokens = CASE WHEN next_id > 0 THEN total_tokens ELSE excluded.total_tokens END,
    last_message_at = CASE WHEN next_id > 0 THEN last_message_at ELSE excluded.last_message_at END

-- name: read_record
SELECT
    conversation_id, user_id, created_at, title, selected_repository, selected_branch, git_provider,
    trigger_kind, pr_number, llm_model, sandbox_id, conversation_version, custom,
    last_updated_at, accumulated_cost, prompt_tokens, completion_tokens, total_tokens, last_message_at
FROM conversations
WHERE conversation_id = ? AND user_id IS ? AND recorded = 1 AND deleted_at IS NULL

-- name: read_records
SELECT
    conversation_id, user_id, created_at, title, selected_repository, selected_branch, git_provider,
    trigger_kind, pr_number, llm_model, sandbox_id, conversation_version, custom,
    last_updated_at, accumulated_cost, prompt_tokens, completion_tokens, total_tokens, last_message_at
FROM conversations
WHERE conversation_id IN (SELECT value FROM json_each(?)) AND user_id IS ?
    AND recorded = 1 AND deleted_at IS NULL

-- name: list_records
-- 1 owner, 2 and 3 the position the page begins after, 4 to 7 the filters, 8 how many
SELECT
    conversation_id, user_id, created_at, title, selected_repository, selected_branch, git_provider,
    trigger_kind, pr_number, llm_model, sandbox_id, conversation_version, custom,
    last_updated_at, accumulated_cost, prompt_tokens, completion_tokens, total_tokens, last_message_at
FROM conversations
WHERE user_id IS ?1 AND recorded = 1 AND deleted_at IS NULL
    AND (created_at, conversation_id) < (?2, ?3)
    AND (?4 IS NULL OR selected_repository = ?4)
    AND (?5 IS NULL OR trigger_kind = ?5)
    AND (?6 IS NULL OR instr(folded_title, ?6) > 0)
    AND (?7 IS NULL OR coalesce(last_updated_at, created_at) >= ?7)
ORDER BY created_at DESC, conversation_id DESC
LIMIT ?8

-- name: list_records_by_repository
-- As list_records, by an index that begins with the repository.
-- 1 owner, 2 and 3 the position the page begins after, 4 to 7 the filters, 8 how many
SELECT
    conversation_id, user_id, created_at, title, selected_repository, selected_branch, git_provider,
    trigger_kind, pr_number, llm_model, sandbox_id, conversation_version, custom,
    last_updated_at, accumulated_cost, prompt_tokens, completion_tokens, total_tokens, last_message_at
FROM conversations
WHERE user_id IS ?1 AND recorded = 1 AND deleted_at IS NULL
    AND (created_at, conversation_id) < (?2, ?3)
    AND selected_repository = ?4
    AND (?5 IS NULL OR trigger_kind = ?5)
    AND (?6 IS NULL OR instr(folded_title, ?6) > 0)
    AND (?7 IS NULL OR coalesce(last_updated_at, created_at) >= ?7)
ORDER BY created_at DESC, conversation_id DESC
LIMIT ?8

-- name: list_records_by_trigger
-- As list_records, by an index that begins with the trigger.
-- 1 owner, 2 and 3 the position the page begins after, 4 to 7 the filters, 8 how many
SELECT
    conversation_id, user_id, created_at, title, selected_repository, selected_branch, git_provider,
    trigger_kind, pr_number, llm_model, sandbox_id, conversation_version, custom,
    last_updated_at, accumulated_cost, prompt_tokens, completion_tokens, total_tokens, last_message_at
FROM conversations
WHERE user_id IS ?1 AND recorded = 1 AND deleted_at IS NULL
    AND (created_at, conversation_id) < (?2, ?3)
    AND (?4 IS NULL OR selected_repository = ?4)
    AND trigger_kind = ?5
    AND (?6 IS NULL OR instr(folded_title, ?6) > 0)
    AND (?7 IS NULL OR coalesce(last_updated_at, created_at) >= ?7)
ORDER BY created_at DESC, conversation_id DESC
LIMIT ?8

-- name: list_records_by_number
-- As list_records, out of those whose numbers are given.
-- 1 owner, 2 and 3 the position the page begins after, 4 to 7 the filters, 8 how many, 9 the numbers
SELECT
    conversation_id, user_id, created_at, title, selected_repository, selected_branch, git_provider,
    trigger_kind, pr_number, llm_model, sandbox_id, conversation_version, custom,
    last_updated_at, accumulated_cost, prompt_tokens, completion_tokens, total_tokens, last_message_at
FROM json_each(?9) CROSS JOIN conversations ON number = value
WHERE user_id IS ?1 AND recorded = 1 AND deleted_at IS NULL
    AND (created_at, conversation_id) < (?2, ?3)
    AND (?4 IS NULL OR selected_repository = ?4)
    AND (?5 IS NULL OR trigger_kind = ?5)
    AND (?6 IS NULL OR instr(folded_title, ?6) > 0)
    AND (?7 IS NULL OR coalesce(last_updated_at, created_at) >= ?7)
ORDER BY created_at DESC, conversation_id DESC
LIMIT ?8

-- name: list_records_by_message
-- As list_records, in the order of the last messages.
SELECT
    conversation_id, user_id, created_at, title, selected_repository, selected_branch, git_provider,
    trigger_kind, pr_number, llm_model, sandbox_id, conversation_version, custom,
    last_updated_at, accumulated_cost, prompt_tokens, completion_tokens, total_tokens, last_message_at
FROM conversations INDEXED BY conversations_by_message
WHERE user_id IS ?1 AND recorded = 1 AND deleted_at IS NULL
    AND (coalesce(last_message_at, created_at), conversation_id) < (?2, ?3)
    AND (?4 IS NULL OR selected_repository = ?4)
    AND (?5 IS NULL OR trigger_kind = ?5)
    AND (?6 IS NULL OR instr(folded_title, ?6) > 0)
    AND (?7 IS NULL OR coalesce(last_updated_at, created_at) >= ?7)
ORDER BY coalesce(last_message_at, created_at) DESC, conversation_id DESC
LIMIT ?8

-- name: list_records_by_message_and_number
-- As list_records_by_number, in the order of the last messages.
SELECT
    conversation_id, user_id, created_at, title, selected_repository, selected_branch, git_provider,
    trigger_kind, pr_number, llm_model, sandbox_id, conversation_version, custom,
    last_updated_at, accumulated_cost, prompt_tokens, completion_tokens, total_tokens, last_message_at
FROM json_each(?9) CROSS JOIN conversations ON number = value
WHERE user_id IS ?1 AND recorded = 1 AND deleted_at IS NULL
    AND (coalesce(last_message_at, created_at), conversation_id) < (?2, ?3)
    AND (?4 IS NULL OR selected_repository = ?4)
    AND (?5 IS NULL OR trigger_kind = ?5)
    AND (?6 IS NULL OR instr(folded_title, ?6) > 0)
    AND (?7 IS NULL OR coalesce(last_updated_at, created_at) >= ?7)
ORDER BY coalesce(last_message_at, created_at) DESC, conversation_id DESC
LIMIT ?8

-- name: find_titles
-- The numbers of those that a full-text search finds, and of those always looked at; 2 how many.
SELECT rowid FROM titles WHERE titles MATCH ?1
UNION ALL
SELECT number FROM conversations WHERE instr(title, char(0)) > 0
LIMIT ?2

-- name: find_updated
-- 1 owner, 2 since when, 3 how many
SELECT number FROM conversations INDEXED BY conversations_by_update
WHERE user_id IS ?1 AND recorded = 1 AND deleted_at IS NULL
    AND coalesce(last_updated_at, created_at) >= ?2
LIMIT ?3

-- name: title_terms
-- The threes that begin with a text, and how many titles have each; no three sorts after all it
-- may be followed by.
SELECT term, doc FROM title_terms WHERE term >= ?1 AND term < ?1 || char(1114111, 1114111, 1114111)

-- name: list_all_records
-- As list_records, of all owners. 1 and 2 the position the page begins after, 3 to 6 the filters, 7 how many
SELECT
    conversation_id, user_id, created_at, title, selected_repository, selected_branch, git_provider,
    trigger_kind, pr_number, llm_model, sandbox_id, conversation_version, custom,
    last_updated_at, accumulated_cost, prompt_tokens, completion_tokens, total_tokens, last_message_at
FROM conversations
WHERE recorded = 1 AND deleted_at IS NULL
    AND (created_at, conversation_id) < (?1, ?2)
    AND (?3 IS NULL OR selected_repository = ?3)
    AND (?4 IS NULL OR trigger_kind = ?4)
    AND (?5 IS NULL OR instr(folded_title, ?5) > 0)
    AND (?6 IS NULL OR coalesce(last_updated_at, created_at) >= ?6)
ORDER BY created_at DESC, conversation_id DESC
LIMIT ?7

-- name: all_records
SELECT
    conversation_id, user_id, created_at, title, selected_repository, selected_branch, git_provider,
    trigger_kind, pr_number, llm_model, sandbox_id, conversation_version, custom,
    last_updated_at, accumulated_cost, prompt_tokens, completion_tokens, total_tokens, last_message_at
FROM conversations WHERE recorded = 1 AND deleted_at IS NULL

-- name: damaged_records
SELECT conversation_id FROM checked_records WHERE checksum IS NOT computed

-- name: titles_after
-- The titles of numbers above 1, with their folded forms; 2 how many.
SELECT number, title, folded_title FROM conversations WHERE number > ?1 AND title IS NOT NULL ORDER BY number LIMIT ?2

-- name: fold_title
UPDATE conversations SET folded_title = ? WHERE number = ?

-- name: drop_titles
INSERT INTO titles (titles) VALUES ('delete-all')

-- name: index_titles
INSERT INTO titles (rowid, title)
SELECT number, folded_title || char(1, 1) FROM conversations WHERE folded_title IS NOT NULL
