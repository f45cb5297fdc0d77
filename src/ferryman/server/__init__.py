"""Serve bundles over the Open Inference Protocol V2."""
