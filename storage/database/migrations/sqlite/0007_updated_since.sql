-- Lists of what was updated since a moment, without looking at all that was not.
CREATE INDEX conversations_by_update ON conversations (user_id, coalesce(last_updated_at, created_at))
    WHERE recorded = 1 AND deleted_at IS NULL;
