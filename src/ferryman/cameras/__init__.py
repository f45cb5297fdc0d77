"""Cameras: one file for each kind of source, and what keeps one open."""
