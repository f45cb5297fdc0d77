"""AWS: what the targets there share."""
