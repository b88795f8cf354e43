"""Commands and files on this machine, in a directory per conversation. Imported where the server is composed."""
