"""Bundles: what is written is what is read, or is refused."""
