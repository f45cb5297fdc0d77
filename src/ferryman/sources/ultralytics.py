"""Open Ultralytics checkpoints (.pt) and import them to ONNX. Ultralytics is AGPL-3.0: it runs apart, if at all."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ferryman.core.artifact import Artifact, digest_file
from ferryman.core.deployment import ModelSection
from ferryman.core.errors import SourceError
from ferryman.core.isolated import Refusal, isolated
from ferryman.core.signature import Signature
from ferryman.core.step import StepContext
from ferryman.core.toolchain import Toolchain
from ferryman.sources._content import is_ultralytics, looks_like
from ferryman.sources._imported import finish_imported

_HERE = Path(__file__).parent
_PROGRAM = _HERE / "programs" / "ultralytics.py"
_TERMS = (
    "Ultralytics' code is AGPL-3.0, and its makers say the same of models that are trained with it: have you the right "
    "to serve this one as you mean to?"
)

TOOLCHAIN = Toolchain(
    "ultralytics",
    "Ultralytics, to open its checkpoints (.pt). Its licence is AGPL-3.0: nothing of Ferryman imports it.",
    python=(
        "opencv-python-headless==5.0.0.93",
        "pillow==13.0.0",
        "PyYAML==6.0.3",
        "requests==2.34.2",
        "psutil==7.2.2",
        "onnx==1.23.2",
    ),
    # It asks for a window system, data frames and telemetry, which opening a checkpoint doesn't use.
    bare=("ultralytics==8.4.190", "torchvision==0.28.0"),
    base="torch",
    lock=_HERE / "locks" / "ultralytics.txt",
    expected_mb=200,
    license="AGPL-3.0",
)


class UltralyticsSource:
    """Open an Ultralytics checkpoint (trust = true: it is a pickle) in the toolchain `ultralytics` (AGPL-3.0)."""

    name: ClassVar[str] = "ultralytics"
    suffixes: ClassVar[tuple[str, ...]] = (".pt",)
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    toolchain: ClassVar[str] = "ultralytics"

    def recognises(self, path: Path) -> bool:
        """Tell whether this is a file of torch.save whose pickle names classes of Ultralytics."""
        return is_ultralytics(path)

    def open(self, path: Path, model: ModelSection, workspace: Path) -> Artifact:
        """Have Ultralytics load the file; raises SourceError unless the user trusts it.

        The artifact's `loader` holds that trust, and tells the whole task: decoder, class names, how pictures go in.
        """
        if not self.recognises(path):
            raise SourceError(
                f"{path} is no Ultralytics checkpoint: it looks like {looks_like(path)}", hint="name a .pt"
            )
        if not model.trust:
            raise SourceError(
                f"{path} is an Ultralytics checkpoint, which is a pickle; opening a pickle runs whatever code is in it",
                hint="set [model] trust = true if you know where it comes from; it is opened by Ultralytics' own code "
                "(AGPL-3.0), apart from this process and from the network. Or name an .onnx that Ultralytics exported",
            )
        try:
            with isolated(self.toolchain, _PROGRAM) as worker:
                told = worker.ask("describe", source=str(path.resolve()))
        except Refusal as error:
            raise SourceError(str(error), hint=error.hint) from None
        signature = Signature.model_validate(told["signature"])
        loader = {"trust": True, "told": _task(told, signature)}
        return Artifact(path, self.name, signature, digest_file(path), loader=loader)


def _task(told: dict[str, Any], signature: Signature) -> dict[str, Any]:  # JSON, and the `[task]` section
    """Write the task as Ultralytics itself runs such a model; raw tensors where Ferryman knows no such task."""
    _, channels, height, width = signature.inputs[0].shape
    image: dict[str, Any] = {"size": [height, width], "layout": "NCHW", "scale": 1 / 255}  # TOML
    image["channels"] = "RGB" if channels == 3 else "GRAY"
    about = f"the checkpoint is a {told['architecture']} of {len(told['names'])} classes, stride {told['stride']}"
    if told["architecture"] == "DetectionModel":  # its `task` says so of any that was not trained here
        spec = {"kind": "detect", "decoder": "end2end" if told["end2end"] else "yolov8", "labels": told["names"]}
        spec["input"] = image | {"fit": "letterbox", "anchor": "center", "pad": 114}
        spec |= {} if told["end2end"] else {"nms": {"iou": 0.7, "score": 0.01}}
    elif told["architecture"] == "ClassificationModel":
        spec = {"kind": "classify", "labels": told["names"], "activation": "none"}
        spec["input"] = image | {"fit": "crop", "resize_short": min(int(height), int(width))}
    else:
        spec = {"kind": "tensor"}
        about += "; Ferryman has no task for it, so tensors are answered as they are"
    return {"spec": spec, "reasons": [about], "questions": [_TERMS]}


@dataclass(frozen=True)
class UltralyticsToOnnx:
    """Import an Ultralytics checkpoint to ONNX: its raw head, without suppression, at its training's picture size."""

    name: ClassVar[str] = "ultralytics-to-onnx"
    accepts: ClassVar[frozenset[str]] = frozenset({"ultralytics"})
    produces: ClassVar[str] = "onnx"
    precision: ClassVar[str | None] = None
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("onnx",)
    extra: ClassVar[str] = ""
    toolchain: ClassVar[str] = "ultralytics"
    imports: ClassVar[bool] = True

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write the ONNX file; raises StepError for what torch can't export."""
        context.workspace.mkdir(parents=True, exist_ok=True)
        partial = context.workspace / "model.partial"
        signature = source.signature
        try:
            with isolated(self.toolchain, _PROGRAM, limits=context.limits, progress=context.progress) as worker:
                ports = worker.ask(
                    "to_onnx",
                    source=str(source.path.resolve()),
                    target=str(partial.resolve()),
                    shape=[size if isinstance(size, int) else 1 for size in signature.inputs[0].shape],
                    outputs=[spec.name for spec in signature.outputs],
                )
            return finish_imported(partial, ports, source, context, self.name)
        finally:
            partial.unlink(missing_ok=True)
