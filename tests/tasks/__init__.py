"""Tests of ferryman.tasks."""
