-- name: touch
-- Changes nothing, but is written and flushed all the same.
UPDATE migrations SET name = name WHERE number = 1
