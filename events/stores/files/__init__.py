"""Logs as files of a file store."""
