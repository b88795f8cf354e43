"""Who did what to the server."""
