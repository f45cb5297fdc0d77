"""Kubernetes objects of a landing, and what puts them on a cluster."""
