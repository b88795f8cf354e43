-- kind: online
-- The hours of records that are older than the column. Records are locked without their heads: an append that knows
-- another hour waits for this and comes after it, or was before it, and then the record's hour is known.
UPDATE parley.records r SET updated_hour = left(coalesce(h.last_updated_at, r.created_at), 13)
FROM parley.heads h
WHERE h.number = r.number AND r.updated_hour = '~' AND r.number = ANY (ARRAY(
    SELECT number FROM parley.records WHERE updated_hour = '~' LIMIT 500
));
