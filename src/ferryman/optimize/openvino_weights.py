"""Make an OpenVINO model smaller by its weights alone, with NNCF."""

from dataclasses import dataclass
from typing import ClassVar

from ferryman.core.artifact import Artifact
from ferryman.core.errors import NotApplicable, StepError
from ferryman.core.step import StepContext
from ferryman.optimize._nncf import import_nncf, quiet
from ferryman.optimize._openvino import members_of, name_new_nodes, read, reason_of, write


@dataclass(frozen=True)
class OpenVINOWeights8:
    """Store the weights of an OpenVINO model in 8 bits, a scale for each channel, with NNCF; activations stay float."""

    name: ClassVar[str] = "openvino-w8"
    accepts: ClassVar[frozenset[str]] = frozenset({"openvino"})
    produces: ClassVar[str] = "openvino"
    precision: ClassVar[str | None] = "w8"
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("openvino", "nncf")
    extra: ClassVar[str] = "openvino"
    on_request: ClassVar[bool] = True
    mode: ClassVar[str] = "INT8_SYM"

    exclude_nodes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "exclude_nodes", tuple(self.exclude_nodes))  # a list in TOML and JSON

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write the folder model; raises NotApplicable where no layer has weights for so few bits."""
        model = read(source.path)
        weighted = [entry for entry in members_of(model) if entry.layer.is_weighted]
        if not any(self._takes(entry.layer.op) for entry in weighted):
            raise NotApplicable(f"{self.name}: nothing to store: the model has no {self._wanted()} with weights")
        ignored = [node for entry in weighted if entry.layer.name in self.exclude_nodes for node in entry.nodes]
        known = {node.get_friendly_name() for node in model.get_ops()}
        nncf = import_nncf()
        with quiet():
            try:
                stored = nncf.compress_weights(
                    model,
                    mode=nncf.CompressWeightsMode[self.mode],
                    ignored_scope=nncf.IgnoredScope(names=ignored, validate=False) if ignored else None,
                    **self._grouped(),
                )
            except Exception as error:
                raise StepError(f"{self.name}: NNCF failed: {reason_of(error)}", hint="try w8 of ONNX") from error
        name_new_nodes(stored, known)
        context.progress("store weights", note=f"{len(weighted)} layers")
        return write(stored, source, context.workspace, step=self.name, precision=self.precision or "")

    def _takes(self, op: str) -> bool:
        return True

    def _wanted(self) -> str:
        return "layer"

    def _grouped(self) -> dict[str, object]:
        return {}


@dataclass(frozen=True)
class OpenVINOWeights4(OpenVINOWeights8):
    """Store the weights of an OpenVINO model's matrix products in 4 bits with NNCF, a scale for each group.

    Convolutions, and the last product, take 8 bits: NNCF has no 4 bits for them.
    """

    name: ClassVar[str] = "openvino-w4"
    precision: ClassVar[str | None] = "w4"
    mode: ClassVar[str] = "INT4_SYM"

    group_size: int = 32

    def _takes(self, op: str) -> bool:
        return op == "MatMul"

    def _wanted(self) -> str:
        return "matrix product"

    def _grouped(self) -> dict[str, object]:
        from nncf.quantization.advanced_parameters import AdvancedCompressionParameters, GroupSizeFallbackMode

        shorter = AdvancedCompressionParameters(group_size_fallback_mode=GroupSizeFallbackMode.ADJUST)
        return {"group_size": self.group_size, "all_layers": True, "advanced_parameters": shorter}
