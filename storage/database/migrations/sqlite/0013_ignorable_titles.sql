-- Titles are searched without code points that are not shown, such as soft hyphens. Only titles that
-- have some are written. A title that is no UTF-8 has no such form: it stays as it is.
UPDATE conversations SET folded_title = fold_utf8(CAST(title AS BLOB))
WHERE typeof(title) = 'text' AND fold_utf8(CAST(title AS BLOB)) IS NOT NULL
    AND folded_title IS NOT fold_utf8(CAST(title AS BLOB));
