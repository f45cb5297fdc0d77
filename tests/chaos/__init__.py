"""Do to a running server what goes wrong in production, and count what became of every request."""
