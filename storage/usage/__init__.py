"""What conversations have used: events, tokens and cost by day and model."""
