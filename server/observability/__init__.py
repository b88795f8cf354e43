"""Logs, counters, metrics, readiness and the watch on the event loop."""
