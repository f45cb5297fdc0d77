"""Torch's side of the exports: ONNX operators in torch. Imports torch, so plug-ins import it inside their methods."""
