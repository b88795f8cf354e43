-- What is kept of a user besides conversations: settings and secrets, their values sealed.
CREATE TABLE parley.user_records (
    owner text COLLATE "C" NOT NULL,                    -- storage/keys.py: owner_part
    kind  text COLLATE "C" NOT NULL,                    -- settings, secrets
    body  bytea NOT NULL,
    PRIMARY KEY (owner, kind)
);

CREATE TABLE parley.key_mark (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    key_id   text NOT NULL                              -- names the key that seals every value
);
