"""What tensors mean: preprocessing, postprocessing, data sets and metrics."""
