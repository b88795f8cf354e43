"""Socket.IO: handlers, sessions and fan-out, and the two transports below them."""
