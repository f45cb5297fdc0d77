"""Write a bundle as an OCI image: a base, the packages that serve it, and the bundle, a layer each."""
