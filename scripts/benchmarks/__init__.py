"""Measures the server beside its yardsticks; run by scripts/bench."""
