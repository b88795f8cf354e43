"""One turn of an agent: what it appends, what bounds it, how it ends. Imported by server.agent."""
