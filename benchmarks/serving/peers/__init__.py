"""One script a peer; each runs in an environment of its own and imports nothing of Ferryman."""
