"""Detectors to compare two samples, or to follow one number, offline: one file each, behind one interface."""
