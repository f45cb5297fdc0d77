"""Take whole channels out of an ONNX model, and let it learn from the source to do without them."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ferryman.core.artifact import Artifact
from ferryman.core.errors import ConfigError, NotApplicable
from ferryman.core.signature import Array, Signature
from ferryman.core.step import StepContext
from ferryman.optimize._atom_rules import follow
from ferryman.optimize._atoms import Ids
from ferryman.optimize._narrow import choose, families, kept_along, layers_with_work, narrow, work_of
from ferryman.optimize._onnx import Model, fold, infer_shapes, load, name_nodes, raise_opset, write
from ferryman.optimize._options import check_choice, check_not_negative, check_samples
from ferryman.optimize._recovery import AtWork, describe, learning, put_weights, settings_of
from ferryman.optimize._sparse24 import masks_of

_OPSET_OF_PLAIN_SPLITS = 13
_PATTERNS = ("channels", "2:4")


@dataclass(frozen=True)
class Prune:
    """Take channels out of an ONNX model and recover by distillation from the source, on the user's own data.

    `sparsity` is the least share of multiplications that goes, in `rounds` of cutting and recovering. Widths stay
    multiples of `multiple`, which engines compute at once (16 with AVX-512, 8 with AVX2): of a small model more goes
    than is asked, as its steps are wide. Labels aren't needed. Recovery ends
    after `steps`, or after `minutes` if they are over sooner: only then another run gives other weights. `samples`
    bounds how much of the calibration data it learns from (0: all). `noise` changes brightness by so much.
    `threads` are torch's (0: those of the build, at most two); on a busy machine one is faster than two.
    `pattern` = "2:4" leaves widths alone and makes two of each four weights zero, which only a GPU's runtime uses.
    """

    name: ClassVar[str] = "prune"
    accepts: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "onnx"
    precision: ClassVar[str | None] = "pruned"
    calibrates: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    extra: ClassVar[str] = ""
    toolchain: ClassVar[str] = "torch"
    on_request: ClassVar[bool] = True
    cost_s: ClassVar[float] = 300.0

    sparsity: float = 0.5
    rounds: int = 1
    steps: int = 2000
    minutes: float = 5.0
    batch: int = 16
    rate: float = 0.004
    noise: float = 0.2
    samples: int = 0
    multiple: int = 16
    pattern: str = "channels"
    bfloat16: bool = False
    threads: int = 0
    min_samples: int = 32

    def __post_init__(self) -> None:
        check_choice("pattern", self.pattern, _PATTERNS)
        if self.pattern == "2:4":
            object.__setattr__(self, "sparsity", 0.5)  # by definition
        if not 0 < self.sparsity < 1:
            raise ConfigError(f"sparsity = {self.sparsity}", hint="it must be over 0 and below 1: 0.5 takes half away")
        for option in ("rounds", "steps", "batch", "multiple", "min_samples"):
            if getattr(self, option) < 1:
                raise ConfigError(f"{option} = {getattr(self, option)}", hint="it must be 1 or more")
        for option in ("minutes", "rate"):
            if getattr(self, option) <= 0:
                raise ConfigError(f"{option} = {getattr(self, option)}", hint="it must be over 0")
        check_not_negative(self, "samples", "threads", "noise")

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write model.onnx; raises DataError for too few samples, NotApplicable where no channel may go."""
        check_samples(context.calibration, self.min_samples, source.signature, self.name)
        teacher = infer_shapes(fold(raise_opset(load(source.path), _OPSET_OF_PLAIN_SPLITS, self.name)))
        name_nodes(teacher)
        with learning(self, source, context) as at_work:
            student = self._recovered(teacher, source.signature, context, at_work)
        return write(student, source, context.workspace, step=self.name, precision=self.precision)

    def _recovered(self, teacher: Model, signature: Signature, context: StepContext, at_work: AtWork) -> Model:
        """Cut and recover, round by round."""
        worker, files = at_work
        work = work_of(layers_with_work(teacher, follow(teacher), positions_of(teacher, context)), set())
        student, kept, masks = teacher, None, {}
        part = replace(self, steps=-(-self.steps // self.rounds), minutes=self.minutes / self.rounds)
        for turn in range(1, self.rounds + 1):
            if self.pattern == "2:4":
                masks = self._masks(student, context)
            else:
                left = work * (1 - self.sparsity) ** (turn / self.rounds)
                student, kept = self._cut(student, kept, (left, work), context)
            asked = {**describe(teacher, student, kept), **settings_of(part, signature, context)}
            recovered = worker.ask("recover", files=files, masks=masks, **asked)
            put_weights(student, recovered["weights"])
            context.progress("recovered", note=_told(recovered, part))
        return student

    def _masks(self, student: Model, context: StepContext) -> dict[str, Array]:
        masks = masks_of(student)
        if not masks:
            raise NotApplicable(f"{self.name}: no layer has four weights in a row to leave two of them out")
        context.progress("2:4", note=f"{len(masks)} layers")
        return masks

    def _cut(
        self, student: Model, kept: dict[str, Ids] | None, works: tuple[float, float], context: StepContext
    ) -> tuple[Model, dict[str, Ids]]:
        """Take channels out until so much work is left (the first of `works`, of the second)."""
        channels = follow(student)
        layers = layers_with_work(student, channels, positions_of(student, context))
        wanted, before = works
        there = work_of(layers, set())
        share = 1 - wanted / max(there, wanted)
        gone = choose(families(student, channels), layers, share=share, multiple=self.multiple)
        if not gone and kept is None:
            raise NotApplicable(
                f"{self.name}: no channel may go: each is an output, or feeds what mixes channels in its own way",
                hint=f"layers narrower than multiple = {self.multiple} go down in smaller steps",
            )
        lost = 1 - work_of(layers, gone) / before
        context.progress("cut", note=f"{len(gone)} channels; {lost:.0%} of the multiplications are gone")
        left = {name: kept_along(channels, track.ids, gone) for name, track in channels.tracks.items()}
        if kept is not None:
            left = {name: kept[name][places] for name, places in left.items() if name in kept}
        return infer_shapes(narrow(student, channels, gone)), left


def positions_of(model: Model, context: StepContext) -> dict[str, int]:
    """Give how many places each layer's filters are set to, by node, for inputs of the samples' size."""
    import numpy as np
    import onnx

    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    for entry in sized.graph.input:
        if entry.name in context.calibration[0]:
            sizes = context.calibration[0][entry.name].shape
            for dim, size in zip(entry.type.tensor_type.shape.dim, sizes, strict=True):
                dim.dim_value = size
    del sized.graph.value_info[:]
    known = infer_shapes(sized).graph
    infos = (*known.value_info, *known.output)
    shapes = {info.name: [dim.dim_value for dim in info.type.tensor_type.shape.dim] for info in infos}
    return {
        node.name: max(1, int(np.prod(shapes[node.output[0]][2:], dtype=np.int64)))
        for node in model.graph.node
        if node.output[0] in shapes
    }


def _told(recovered: dict[str, Any], options: Prune) -> str:
    why = "" if recovered["steps"] >= options.steps else f" (of {options.steps}: the {options.minutes:g} min were over)"
    return f"{recovered['steps']} steps{why}, {recovered['seconds']:.0f} s, loss {recovered['losses'][-1]:.4f}"
