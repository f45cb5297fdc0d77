"""The Open Inference Protocol V2 over HTTP: requests to asks, answers to bytes."""
