"""Administration: endpoints that show and change the state of the whole server."""
