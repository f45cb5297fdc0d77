"""Answer requests: the data plane and its transports."""
