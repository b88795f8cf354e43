-- Events in the order of their arrival, until they are put in their place: a commit of many
-- conversations' events writes a few pages here, and one page for each of them there.
CREATE TABLE arrivals (
    seq INTEGER PRIMARY KEY,
    key INTEGER NOT NULL,                                   -- from here on: as in events
    version INTEGER NOT NULL,
    flag INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    body BLOB NOT NULL
);
