"""Administration: what goes on in the whole server, and what may be done about it."""
