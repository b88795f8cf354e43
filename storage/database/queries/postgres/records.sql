-- name: read_claim
-- Whose record it is, whether there is one, and whether the id carries a tombstone.
SELECT r.user_id, r.number IS NOT NULL, h.state > 0
FROM parley.heads h LEFT JOIN parley.records r ON r.number = h.number
WHERE h.number = parley.number_of($1)

-- name: deleted_conversations
SELECT conversation_id FROM parley.heads
WHERE state > 0 AND conversation_id > $1 COLLATE "C" ORDER BY conversation_id LIMIT $2

-- name: write_record
-- Once the log has events, what is folded is its own. Nothing is written beside a tombstone.
WITH head AS (
    INSERT INTO parley.heads AS h (
        number, conversation_id, last_updated_at, accumulated_cost, prompt_tokens, completion_tokens, total_tokens,
        last_message_at
    ) VALUES (parley.number_of($1), $1, $14, $15, $16, $17, $18, $19)
    ON CONFLICT (number) DO UPDATE SET
        last_updated_at = CASE WHEN h.next_id > 0 THEN h.last_updated_at ELSE excluded.last_updated_at END,
        accumulated_cost = CASE WHEN h.next_id > 0 THEN h.accumulated_cost ELSE excluded.accumulated_cost END,
        prompt_tokens = CASE WHEN h.next_id > 0 THEN h.prompt_tokens ELSE excluded.prompt_tokens END,
        completion_tokens = CASE WHEN h.next_id > 0 THEN h.completion_tokens ELSE excluded.completion_tokens END,
        total_tokens = CASE WHEN h.next_id > 0 THEN h.total_tokens ELSE excluded.total_tokens END,
        last_message_at = CASE WHEN h.next_id > 0 THEN h.last_message_at ELSE excluded.last_message_at END
    WHERE h.state = 0 AND h.conversation_id = excluded.conversation_id
    RETURNING h.number, h.last_message_at, h.last_updated_at, h.counted
)
INSERT INTO parley.records (
    number, conversation_id, user_id, created_at, title, selected_repository, selected_branch, git_provider,
    trigger_kind, pr_number, llm_model, sandbox_id, conversation_version, custom, folded_title, message_hour, updated_hour, uncounted
)
SELECT number, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $20, left(coalesce(last_message_at, $3), 13),
    left(coalesce(last_updated_at, $3), 13), NOT counted
FROM head
ON CONFLICT (number) DO UPDATE SET
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
    message_hour = excluded.message_hour,
    updated_hour = excluded.updated_hour,
    uncounted = excluded.uncounted

-- name: read_record
SELECT
    conversation_id, user_id, created_at, title, selected_repository, selected_branch, git_provider,
    trigger_kind, pr_number, llm_model, sandbox_id, conversation_version, custom,
    last_updated_at, accumulated_cost, prompt_tokens, completion_tokens, total_tokens, last_message_at
FROM parley.folded_records
WHERE number = parley.number_of($1) AND conversation_id = $1
    AND (user_id = $2::text OR $2::text IS NULL AND user_id IS NULL)

-- name: read_records
SELECT
    conversation_id, user_id, created_at, title, selected_repository, selected_branch, git_provider,
    trigger_kind, pr_number, llm_model, sandbox_id, conversation_version, custom,
    last_updated_at, accumulated_cost, prompt_tokens, completion_tokens, total_tokens, last_message_at
FROM parley.folded_records
WHERE number IN (SELECT parley.number_of(asked) FROM json_array_elements_text($1::json) AS asked)
    AND conversation_id IN (SELECT json_array_elements_text($1::json))
    AND (user_id = $2::text OR $2::text IS NULL AND user_id IS NULL)

-- Of titles that hold a text of three characters or more only those are looked at that hold all of its trigrams, by an
-- index where few do. Plans are made for the parameters, so that filters which are not asked for do not count.

-- name: list_records
-- 1 owner, 2 and 3 the position the page begins after, 4 to 7 the filters, 8 how many
SELECT
    conversation_id, user_id, created_at, title, selected_repository, selected_branch, git_provider,
    trigger_kind, pr_number, llm_model, sandbox_id, conversation_version, custom,
    last_updated_at, accumulated_cost, prompt_tokens, completion_tokens, total_tokens, last_message_at
FROM parley.folded_records
WHERE (user_id = $1::text OR $1::text IS NULL AND user_id IS NULL)
    AND (created_at, conversation_id) < ($2::text, $3::text)
    AND ($4::text IS NULL OR selected_repository = $4)
    AND ($5::text IS NULL OR trigger_kind = $5)
    AND ($6::text IS NULL OR position($6 IN folded_title) > 0)
    AND ($6 IS NULL OR length($6) < 3 OR parley.trigrams(folded_title) @> parley.trigrams($6))
    AND ($7::text IS NULL OR updated_hour >= left($7, 13) AND coalesce(last_updated_at, created_at) >= $7)
ORDER BY created_at DESC, conversation_id DESC
LIMIT $8::integer

-- name: list_records_by_repository
-- As list_records, by an index that begins with the repository.
SELECT
    conversation_id, user_id, created_at, title, selected_repository, selected_branch, git_provider,
    trigger_kind, pr_number, llm_model, sandbox_id, conversation_version, custom,
    last_updated_at, accumulated_cost, prompt_tokens, completion_tokens, total_tokens, last_message_at
FROM parley.folded_records
WHERE (user_id = $1::text OR $1::text IS NULL AND user_id IS NULL)
    AND (created_at, conversation_id) < ($2::text, $3::text)
    AND selected_repository = $4::text
    AND ($5::text IS NULL OR trigger_kind = $5)
    AND ($6::text IS NULL OR position($6 IN folded_title) > 0)
    AND ($6 IS NULL OR length($6) < 3 OR parley.trigrams(folded_title) @> parley.trigrams($6))
    AND ($7::text IS NULL OR updated_hour >= left($7, 13) AND coalesce(last_updated_at, created_at) >= $7)
ORDER BY created_at DESC, conversation_id DESC
LIMIT $8::integer

-- name: list_records_by_trigger
-- As list_records, by an index that begins with the trigger.
SELECT
    conversation_id, user_id, created_at, title, selected_repository, selected_branch, git_provider,
    trigger_kind, pr_number, llm_model, sandbox_id, conversation_version, custom,
    last_updated_at, accumulated_cost, prompt_tokens, completion_tokens, total_tokens, last_message_at
FROM parley.folded_records
WHERE (user_id = $1::text OR $1::text IS NULL AND user_id IS NULL)
    AND (created_at, conversation_id) < ($2::text, $3::text)
    AND ($4::text IS NULL OR selected_repository = $4)
    AND trigger_kind = $5::text
    AND ($6::text IS NULL OR position($6 IN folded_title) > 0)
    AND ($6 IS NULL OR length($6) < 3 OR parley.trigrams(folded_title) @> parley.trigrams($6))
    AND ($7::text IS NULL OR updated_hour >= left($7, 13) AND coalesce(last_updated_at, created_at) >= $7)
ORDER BY created_at DESC, conversation_id DESC
LIMIT $8::integer

-- name: list_records_by_message
-- As list_records, in the order of the last messages, which stand in the heads: the index has the order of the hours,
-- and those of one hour are sorted.
SELECT
    conversation_id, user_id, created_at, title, selected_repository, selected_branch, git_provider,
    trigger_kind, pr_number, llm_model, sandbox_id, conversation_version, custom,
    last_updated_at, accumulated_cost, prompt_tokens, completion_tokens, total_tokens, last_message_at
FROM parley.folded_records
WHERE (user_id = $1::text OR $1::text IS NULL AND user_id IS NULL)
    AND (coalesce(last_message_at, created_at), conversation_id) < ($2::text, $3::text)
    AND message_hour <= left($2::text, 13)
    AND ($4::text IS NULL OR selected_repository = $4)
    AND ($5::text IS NULL OR trigger_kind = $5)
    AND ($6::text IS NULL OR position($6 IN folded_title) > 0)
    AND ($6 IS NULL OR length($6) < 3 OR parley.trigrams(folded_title) @> parley.trigrams($6))
    AND ($7::text IS NULL OR updated_hour >= left($7, 13) AND coalesce(last_updated_at, created_at) >= $7)
ORDER BY message_hour DESC, coalesce(last_message_at, created_at) DESC, conversation_id DESC
LIMIT $8::integer

-- name: list_all_records
-- As list_records, of all owners. 1 and 2 the position the page begins after, 3 to 6 the filters, 7 how many
SELECT
    conversation_id, user_id, created_at, title, selected_repository, selected_branch, git_provider,
    trigger_kind, pr_number, llm_model, sandbox_id, conversation_version, custom,
    last_updated_at, accumulated_cost, prompt_tokens, completion_tokens, total_tokens, last_message_at
FROM parley.folded_records
WHERE (created_at, conversation_id) < ($1::text, $2::text)
    AND ($3::text IS NULL OR selected_repository = $3)
    AND ($4::text IS NULL OR trigger_kind = $4)
    AND ($5::text IS NULL OR position($5 IN folded_title) > 0)
    AND ($5 IS NULL OR length($5) < 3 OR parley.trigrams(folded_title) @> parley.trigrams($5))
    AND ($6::text IS NULL OR updated_hour >= left($6, 13) AND coalesce(last_updated_at, created_at) >= $6)
ORDER BY created_at DESC, conversation_id DESC
LIMIT $7::integer

-- name: find_updated
-- 1 owner, 2 since when, 3 how many. Some more than were, of the same hour; none less.
SELECT number FROM parley.records
WHERE (user_id = $1::text OR $1::text IS NULL AND user_id IS NULL) AND updated_hour >= left($2::text, 13)
LIMIT $3::integer

-- name: find_all_updated
-- 1 since when, 2 how many
SELECT number FROM parley.records WHERE updated_hour >= left($1::text, 13) LIMIT $2::integer

-- name: list_records_by_number
-- As list_records, of the numbers in the JSON list 9, which are read by themselves.
SELECT
    conversation_id, user_id, created_at, title, selected_repository, selected_branch, git_provider,
    trigger_kind, pr_number, llm_model, sandbox_id, conversation_version, custom,
    last_updated_at, accumulated_cost, prompt_tokens, completion_tokens, total_tokens, last_message_at
FROM (
    SELECT * FROM parley.folded_records
    WHERE number = ANY (ARRAY(SELECT json_array_elements_text($9::json)::bigint)) OFFSET 0
) AS few
WHERE (user_id = $1::text OR $1::text IS NULL AND user_id IS NULL)
    AND (created_at, conversation_id) < ($2::text, $3::text)
    AND ($4::text IS NULL OR selected_repository = $4)
    AND ($5::text IS NULL OR trigger_kind = $5)
    AND ($6::text IS NULL OR position($6 IN folded_title) > 0)
    AND ($6 IS NULL OR length($6) < 3 OR parley.trigrams(folded_title) @> parley.trigrams($6))
    AND ($7::text IS NULL OR updated_hour >= left($7, 13) AND coalesce(last_updated_at, created_at) >= $7)
ORDER BY created_at DESC, conversation_id DESC
LIMIT $8::integer

-- name: list_records_by_message_and_number
-- As list_records_by_message, of the numbers in the JSON list 9.
SELECT
    conversation_id, user_id, created_at, title, selected_repository, selected_branch, git_provider,
    trigger_kind, pr_number, llm_model, sandbox_id, conversation_version, custom,
    last_updated_at, accumulated_cost, prompt_tokens, completion_tokens, total_tokens, last_message_at
FROM (
    SELECT * FROM parley.folded_records
    WHERE number = ANY (ARRAY(SELECT json_array_elements_text($9::json)::bigint)) OFFSET 0
) AS few
WHERE (user_id = $1::text OR $1::text IS NULL AND user_id IS NULL)
    AND (coalesce(last_message_at, created_at), conversation_id) < ($2::text, $3::text)
    AND message_hour <= left($2::text, 13)
    AND ($4::text IS NULL OR selected_repository = $4)
    AND ($5::text IS NULL OR trigger_kind = $5)
    AND ($6::text IS NULL OR position($6 IN folded_title) > 0)
    AND ($6 IS NULL OR length($6) < 3 OR parley.trigrams(folded_title) @> parley.trigrams($6))
    AND ($7::text IS NULL OR updated_hour >= left($7, 13) AND coalesce(last_updated_at, created_at) >= $7)
ORDER BY message_hour DESC, coalesce(last_message_at, created_at) DESC, conversation_id DESC
LIMIT $8::integer

-- name: list_all_records_by_number
-- As list_all_records, of the numbers in the JSON list 8.
SELECT
    conversation_id, user_id, created_at, title, selected_repository, selected_branch, git_provider,
    trigger_kind, pr_number, llm_model, sandbox_id, conversation_version, custom,
    last_updated_at, accumulated_cost, prompt_tokens, completion_tokens, total_tokens, last_message_at
FROM (
    SELECT * FROM parley.folded_records
    WHERE number = ANY (ARRAY(SELECT json_array_elements_text($8::json)::bigint)) OFFSET 0
) AS few
WHERE (created_at, conversation_id) < ($1::text, $2::text)
    AND ($3::text IS NULL OR selected_repository = $3)
    AND ($4::text IS NULL OR trigger_kind = $4)
    AND ($5::text IS NULL OR position($5 IN folded_title) > 0)
    AND ($5 IS NULL OR length($5) < 3 OR parley.trigrams(folded_title) @> parley.trigrams($5))
    AND ($6::text IS NULL OR updated_hour >= left($6, 13) AND coalesce(last_updated_at, created_at) >= $6)
ORDER BY created_at DESC, conversation_id DESC
LIMIT $7::integer

-- name: bury_conversation
-- The moment is not kept: a head has a state.
SELECT parley.bury_log(parley.number_of($1), $1) WHERE $2::text IS NOT NULL
