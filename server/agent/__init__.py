"""The agent loop: drives one agent over one stream and survives whatever the agent does."""
