-- An index of what is in titles: each three characters that follow each other. It needs no extension.
CREATE FUNCTION parley.trigrams(folded text) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE COST 1000 AS $$
    SELECT coalesce(array_agg(DISTINCT substr(folded, one, 3)), '{}') FROM generate_series(1, length(folded) - 2) AS one
$$;
CREATE INDEX records_by_title ON parley.records USING gin (parley.trigrams(folded_title));
