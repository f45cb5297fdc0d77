"""Worker processes: what crosses to them, and what happens when they end."""
