"""The full-text index of titles and events: a projection of logs and records, which it may lag behind."""
