"""Real models on real data, each as a project that `ferryman build` takes; for benchmarks and for tests."""
