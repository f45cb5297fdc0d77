"""OCI images, artifacts and registries as data: layers, layouts, references, push and pull."""
