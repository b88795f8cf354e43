"""Logs as rows of PostgreSQL, where many processes may append; needs the extra `postgres`."""
