"""What a machine has left and what it takes: disk, heat, processors that are slowed down, energy, GPUs."""
