"""What travels with a bundle: signatures, bills of materials, provenance, and the artifact that a registry holds."""
