"""Tests of what steers the data plane."""
