"""Load artifacts and answer tensors with tensors: one format a file."""
