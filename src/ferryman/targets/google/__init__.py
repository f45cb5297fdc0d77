"""What the targets on Google Cloud share."""
