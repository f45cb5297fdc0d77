"""Ferryman and other model servers, measured side by side."""
