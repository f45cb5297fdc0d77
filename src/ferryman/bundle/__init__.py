"""Write, check and read bundles."""
