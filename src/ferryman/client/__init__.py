"""Ask a running server."""
