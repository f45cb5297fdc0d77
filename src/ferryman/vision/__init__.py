"""Cameras to answers: frames are handed over, asked about, shown and counted."""
