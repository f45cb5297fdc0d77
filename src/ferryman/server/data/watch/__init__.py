"""What leaves the front for the watch: which calls are looked into, and the facts of those who asked."""
