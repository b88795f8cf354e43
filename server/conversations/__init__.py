"""Conversations in this process: the manager, its registry, the scheduling of agent loops."""
