-- Small records beside a log, replaced as a whole: checkpoints of texts, an agent's memory.
CREATE TABLE asides (
    conversation INTEGER NOT NULL,
    name TEXT NOT NULL,
    crc INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (conversation, name)
);
