"""Usage of conversations: events, tokens and cost by day and model."""
