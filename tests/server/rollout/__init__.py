"""Tests of rollouts and of what remembers them."""
