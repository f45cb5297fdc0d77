"""Moved to `v2/codec.py`."""

from ferryman.server.data.v2.codec import *  # noqa: F403
