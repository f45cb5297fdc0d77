"""Tests of the gRPC transport against real clients and raw bytes."""
