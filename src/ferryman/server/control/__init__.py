"""Load models and say when they are ready."""
