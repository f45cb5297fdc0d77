"""Steps that make a model smaller or faster, and calibration."""
