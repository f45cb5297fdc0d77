"""Compile ONNX models with tract, a small inference engine for devices without an accelerator, and run them."""
