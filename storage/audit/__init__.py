"""The audit: a durable record of administration."""
