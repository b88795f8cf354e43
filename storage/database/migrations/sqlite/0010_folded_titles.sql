-- Titles in the form in which they are searched, storage/unicode_text.py: fold_case. The column is
-- written with the title; `fold_title` is there for these rows only, while migrations run.
ALTER TABLE conversations ADD COLUMN folded_title TEXT;

DROP TRIGGER title_given;
DROP TRIGGER title_changed;

UPDATE conversations SET folded_title = fold_title(title) WHERE title IS NOT NULL;

INSERT INTO titles (titles) VALUES ('delete-all');

INSERT INTO titles (rowid, title)
SELECT number, folded_title || char(1, 1) FROM conversations WHERE folded_title IS NOT NULL;

CREATE TRIGGER title_given AFTER INSERT ON conversations WHEN NEW.folded_title IS NOT NULL BEGIN
    INSERT INTO titles (rowid, title) VALUES (NEW.number, NEW.folded_title || char(1, 1));
END;

CREATE TRIGGER title_changed AFTER UPDATE OF folded_title ON conversations
WHEN NEW.folded_title IS NOT OLD.folded_title BEGIN
    INSERT INTO titles (titles, rowid, title)
    SELECT 'delete', OLD.number, OLD.folded_title || char(1, 1) WHERE OLD.folded_title IS NOT NULL;
    INSERT INTO titles (rowid, title)
    SELECT NEW.number, NEW.folded_title || char(1, 1) WHERE NEW.folded_title IS NOT NULL;
END;
