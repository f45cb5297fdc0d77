"""Measure a candidate against its source: parity, accuracy, latency, memory."""
