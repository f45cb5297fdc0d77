"""Who else gets the records: each sink has a thread of its own, waits out what is down, and goes on where it was."""
