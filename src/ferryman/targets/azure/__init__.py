"""What the targets on Azure share."""
