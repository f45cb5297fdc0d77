"""Fetch, recognise and open trained models; import them to ONNX."""
