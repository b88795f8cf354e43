"""Logs as rows of a database."""
