"""How good answers turn out to be: by labels that come late, and by an estimate where none come."""
