"""Speak gRPC: HTTP/2 frames, calls, and the protocol's messages."""
