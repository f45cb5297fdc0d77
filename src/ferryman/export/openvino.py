"""Convert ONNX models to OpenVINO's format."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from ferryman.core.artifact import Artifact, digest_path
from ferryman.core.errors import NotApplicable, SourceError, StepError
from ferryman.core.privacy import forbid_telemetry
from ferryman.core.step import StepContext
from ferryman.export._openvino_names import name_as_source


@dataclass(frozen=True)
class ToOpenVINO:
    """Convert an ONNX model to OpenVINO's format, in the precision that it has."""

    name: ClassVar[str] = "openvino"
    accepts: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "openvino"
    precision: ClassVar[str | None] = None
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("openvino",)
    extra: ClassVar[str] = "openvino"

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write the folder model; raises StepError for operators that OpenVINO doesn't have."""
        return _convert(source, context.workspace, step=self.name, precision=source.precision, compress=False)


@dataclass(frozen=True)
class ToOpenVINOHalf:
    """Convert an ONNX model to OpenVINO's format with weights kept in 16 bits: half the size, computed in float32."""

    name: ClassVar[str] = "openvino-fp16"
    accepts: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "openvino"
    precision: ClassVar[str | None] = "fp16"
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("openvino",)
    extra: ClassVar[str] = "openvino"

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write the folder model; raises StepError for operators that OpenVINO doesn't have."""
        return _convert(source, context.workspace, step=self.name, precision="fp16", compress=True)


def _convert(source: Artifact, workspace: Path, *, step: str, precision: str, compress: bool) -> Artifact:
    forbid_telemetry()
    import openvino

    if not source.path.is_file():
        raise SourceError(f"there is no ONNX file {source.path}", hint="the artifact was moved or removed")
    try:
        with _without_commas(source.path) as path:
            model = openvino.convert_model(path)
    except Exception as error:
        if "ai.onnx.ml" in {entry.domain for entry in _load_graph(source.path).opset_import}:
            raise NotApplicable(
                f"{step}: OpenVINO has no operators for trees and linear models: {_reason_of(error)}",
                hint="ONNX Runtime serves them",
            ) from error
        raise StepError(
            f"{step}: OpenVINO can't convert {source.path.name}: {_reason_of(error)}",
            hint="serve it with ONNX Runtime instead, or export it without these operators",
        ) from error
    name_as_source(model, source.path)
    partial, folder = workspace / "model.partial", workspace / "model"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    openvino.save_model(model, partial / "model.xml", compress_to_fp16=compress)
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)
    return replace(
        source,
        path=folder,
        format="openvino",
        digest=digest_path(folder),
        precision=precision,
        made_by=(*source.made_by, step),
        loader={},
    )


def _load_graph(path: Path) -> Any:  # onnx.ModelProto
    import onnx

    return onnx.load(path, load_external_data=False)


@contextlib.contextmanager
def _without_commas(path: Path) -> Iterator[Path]:
    """Give a path to the same file that has no comma in it: OpenVINO takes what is between commas for several files."""
    if "," not in str(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="ferryman-openvino-") as folder:
        for neighbour in path.resolve().parent.iterdir():  # external data lies beside the model
            (Path(folder) / neighbour.name.replace(",", "\N{FULLWIDTH COMMA}")).symlink_to(neighbour)
        yield Path(folder) / path.resolve().name.replace(",", "\N{FULLWIDTH COMMA}")


def _reason_of(error: BaseException) -> str:
    """Give the lines that name operators, or else the last one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    about = [
        line for line in lines if "No conversion rule" in line or "not supported" in line or "onnx op" in line.lower()
    ]
    return ("; ".join(about) or (lines[-1] if lines else type(error).__name__))[:400]
