"""The watch: a process that keeps records, finds drift and raises alerts. Serving never waits for it."""
