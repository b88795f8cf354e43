-- The newest version of masks that an append named; 0 where none did.
ALTER TABLE conversations ADD COLUMN masks INTEGER NOT NULL DEFAULT 0;
