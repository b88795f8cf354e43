-- Titles by the three letters at each of their places, ASCII letters in lower case. Two letters that
-- no title has stand behind the last, so that a shorter text is the beginning of such a three.
-- What is found here is looked at again: it is only where to look.
CREATE VIRTUAL TABLE titles USING fts5 (
    title, content = '', detail = 'none', columnsize = 0, tokenize = 'trigram case_sensitive 1'
);

CREATE VIRTUAL TABLE title_terms USING fts5vocab (titles, row);

-- The tokenizer takes the end of a C string for the end of a title: such titles are always looked at.
CREATE INDEX conversations_by_odd_title ON conversations (number) WHERE instr(title, char(0)) > 0;

INSERT INTO titles (rowid, title)
SELECT number, lower(title) || char(1, 1) FROM conversations WHERE title IS NOT NULL;

-- Only where a title is set: an append writes the same row. A row is never deleted.
CREATE TRIGGER title_given AFTER INSERT ON conversations WHEN NEW.title IS NOT NULL BEGIN
    INSERT INTO titles (rowid, title) VALUES (NEW.number, lower(NEW.title) || char(1, 1));
END;

CREATE TRIGGER title_changed AFTER UPDATE OF title ON conversations WHEN NEW.title IS NOT OLD.title BEGIN
    INSERT INTO titles (titles, rowid, title)
    SELECT 'delete', OLD.number, lower(OLD.title) || char(1, 1) WHERE OLD.title IS NOT NULL;
    INSERT INTO titles (rowid, title)
    SELECT NEW.number, lower(NEW.title) || char(1, 1) WHERE NEW.title IS NOT NULL;
END;
