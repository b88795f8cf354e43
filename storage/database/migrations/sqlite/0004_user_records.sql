-- What is kept of a user besides conversations: settings and secrets, their values sealed.
CREATE TABLE user_records (
    owner TEXT NOT NULL,                                    -- storage/locations.py: owner_part
    kind TEXT NOT NULL,                                     -- settings, secrets
    body BLOB NOT NULL,
    PRIMARY KEY (owner, kind)
);

CREATE TABLE key_mark (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    key_id TEXT NOT NULL                                    -- names the key that seals every value
);
