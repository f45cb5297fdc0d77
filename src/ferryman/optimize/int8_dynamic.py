"""Quantize the matrix products of an ONNX model to INT8, without calibration data."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ferryman.core.artifact import Artifact
from ferryman.core.errors import NotApplicable, StepError
from ferryman.core.privacy import forbid_telemetry
from ferryman.core.step import StepContext
from ferryman.optimize._graph import layers_of
from ferryman.optimize._onnx import fold, infer_shapes, load, name_nodes, raise_opset, reason_of, write

_OPS = ("MatMul", "Gemm")
_OPSET_OF_PER_CHANNEL = 13


@dataclass(frozen=True)
class DynamicInt8:
    """Quantize the weights of matrix products to INT8; their inputs are quantized at each call, by their own range.

    Convolutions are left alone: ONNX Runtime computes them slower this way than in float32.
    """

    name: ClassVar[str] = "int8-dynamic"
    accepts: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "onnx"
    precision: ClassVar[str | None] = "int8-dynamic"
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    extra: ClassVar[str] = ""

    per_channel: bool = True
    exclude_nodes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "exclude_nodes", tuple(self.exclude_nodes))  # a list in TOML and JSON

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write model.onnx; raises StepError where the model has no matrix products with weights."""
        import onnx

        forbid_telemetry()
        from onnxruntime.quantization import QuantType, quantize_dynamic
        from onnxruntime.quantization.quant_utils import add_pre_process_metadata

        model = raise_opset(load(source.path), _OPSET_OF_PER_CHANNEL, self.name)
        model = infer_shapes(fold(model))
        name_nodes(model)
        products = [layer for layer in layers_of(model) if layer.op in _OPS]
        kept = [layer.name for layer in products if not layer.is_weighted or layer.name in self.exclude_nodes]
        if len(kept) == len(products):
            raise NotApplicable(
                "int8-dynamic: nothing to quantize: the model has no matrix products (MatMul, Gemm) with weights",
                hint="dynamic quantization has nothing to gain on convolutions; int8 with calibration data does",
            )
        del model.graph.value_info[:]  # it infers shapes anew, and stale ones of weights that it transposes stop it
        add_pre_process_metadata(model)  # or else the quantizer warns that this has not been done
        with tempfile.TemporaryDirectory(prefix="ferryman-int8-") as folder:
            output = Path(folder) / "model.onnx"
            try:
                quantize_dynamic(
                    model,
                    output,
                    op_types_to_quantize=list(_OPS),
                    per_channel=self.per_channel,
                    weight_type=QuantType.QInt8,
                    # It turns each Gemm into a MatMul of that name first.
                    nodes_to_exclude=[name for kept_name in kept for name in (kept_name, f"{kept_name}_MatMul")],
                    extra_options={"MatMulConstBOnly": True},
                )
            except Exception as error:
                raise StepError(f"int8-dynamic: ONNX Runtime's quantizer failed: {reason_of(error)}") from error
            quantized = onnx.load(output)
        del quantized.metadata_props[:]
        return write(quantized, source, context.workspace, step=self.name, precision=self.precision)
