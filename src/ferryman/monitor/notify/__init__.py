"""Bring notices to receivers: kept on the disk until each has them."""
