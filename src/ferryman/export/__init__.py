"""Steps that write what a target runs: one format a file."""
