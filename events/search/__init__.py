"""Full-text search: reads what events say, keeps an index level with the logs, answers searches.

Nothing of `events` imports it.
"""
