"""The HTTP layer around every endpoint: middleware, body limits, security headers, access log."""
