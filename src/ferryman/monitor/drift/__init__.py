"""The live watch for drift: every row beside the bundle's baseline, thresholds from the false-alarm interval."""
