"""What is watched while a model serves: signals, baselines, drift, records, performance and alerts."""
