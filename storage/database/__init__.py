"""Databases: the contract, group commit, migrations, SQLite."""
