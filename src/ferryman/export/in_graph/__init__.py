"""Put what a task does before and after its model into the model's own graph."""

from ferryman.export.in_graph.onnx import join_onnx
from ferryman.export.in_graph.openvino import join_openvino

JOINERS = {"onnx": join_onnx, "openvino": join_openvino}
"""What joins a model with its task's graphs, by format."""
