"""The key of a storage, and what is sealed with it. Imported where records are sealed and opened."""
