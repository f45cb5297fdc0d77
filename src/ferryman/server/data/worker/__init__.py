"""Processes that hold models: the server's side of them, theirs, and the memory they share."""
