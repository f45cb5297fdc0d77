"""What runs on a Ray cluster's nodes: an application whose replicas are bundles, each behind a server of its own."""
