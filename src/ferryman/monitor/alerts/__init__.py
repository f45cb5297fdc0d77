"""Decide what is an alert, who is told, and when; told facts once a second, it tells what is due."""
