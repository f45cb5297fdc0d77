"""Carry a trained model to something that others rely on, with one contract checked at every stage."""

__version__ = "0.1.0"
