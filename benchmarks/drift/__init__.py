"""Drift bench: false alarms on clean streams and delay after a change, beside peers on the same streams."""
