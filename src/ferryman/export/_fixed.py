"""Have a toolchain's program write a model of fixed sizes, as compilers for phones and edge devices want it."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferryman.core.artifact import Artifact, digest_path
from ferryman.core.errors import SourceError, StepError
from ferryman.core.isolated import isolated
from ferryman.core.signature import Signature, TensorSpec
from ferryman.core.step import StepContext


@dataclass(frozen=True, slots=True)
class Conversion:
    """Name a step, its toolchain and program, and the file or folder that it writes."""

    step: str
    toolchain: str
    program: Path
    format: str
    file: str


def convert(
    source: Artifact,
    context: StepContext,
    conversion: Conversion,
    *,
    signature: Signature,
    precision: str,
    **asked: Any,
) -> Artifact:
    """Ask the program to `convert` with `source`, `target`, `scratch` (a folder), `inputs`, `outputs` and what
    else it is asked.

    It answers with the `shapes` of its outputs, which must be those of the source. Nothing half-written stays.
    """
    if not source.path.exists():
        raise SourceError(f"there is no file {source.path}", hint="the artifact was moved or removed")
    context.workspace.mkdir(parents=True, exist_ok=True)
    partial, path = context.workspace / f"partial-{conversion.file}", context.workspace / conversion.file
    scratch = context.workspace / "partial-scratch"
    _remove(partial)
    _remove(scratch)
    try:
        scratch.mkdir()
        with isolated(
            conversion.toolchain, conversion.program, limits=context.limits, progress=context.progress
        ) as worker:
            reply = worker.ask(
                "convert",
                source=str(source.path.resolve()),
                target=str(partial.resolve()),
                scratch=str(scratch.resolve()),
                inputs=[spec.model_dump(mode="json") for spec in signature.inputs],
                outputs=[spec.name for spec in signature.outputs],
                **asked,
            )
        shaped = _shaped(signature, reply["shapes"], conversion.step)
        if not partial.exists():
            raise StepError(f"{conversion.step}: the converter ended without an error, and wrote nothing")
        _remove(path)
        os.replace(partial, path)
    except OSError as error:
        raise StepError(f"{conversion.step}: can't write {path}: {error}", hint="free some space there") from error
    finally:
        _remove(partial)
        _remove(scratch)
    made_by = (*source.made_by, conversion.step)
    return Artifact(path, conversion.format, shaped, digest_path(path), precision, made_by)


def fix_sizes(signature: Signature, batch: int, step: str) -> Signature:
    """Give the signature with its free batch fixed; raises StepError where an input has another free size."""
    names = {spec.shape[0] for spec in signature.inputs if spec.has_dynamic_batch}
    fixed = Signature(
        inputs=tuple(_fix(spec, names, batch) for spec in signature.inputs),
        outputs=tuple(_fix(spec, names, batch) for spec in signature.outputs),
    )
    for spec in fixed.inputs:
        free = [size for size in spec.shape if isinstance(size, str)]
        if free:
            raise StepError(
                f"{step}: the size '{free[0]}' of input '{spec.name}' is free; this format takes models of fixed sizes",
                hint="export the source with a number there",
            )
    return fixed


def _fix(spec: TensorSpec, names: set[int | str], batch: int) -> TensorSpec:
    return spec.model_copy(update={"shape": tuple(batch if size in names else size for size in spec.shape)})


def _shaped(signature: Signature, shapes: Sequence[Sequence[int]], step: str) -> Signature:
    """Give the signature with the shapes that were written; raises StepError for others than the source's."""
    told = ", ".join(str(list(shape)) for shape in shapes)
    fits = len(shapes) == len(signature.outputs) and all(
        spec.fits(shape) for spec, shape in zip(signature.outputs, shapes, strict=True)
    )
    if not fits:
        wanted = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in signature.outputs)
        raise StepError(
            f"{step}: the converter got this model wrong: its outputs have the shapes {told}, and not {wanted}",
            hint="another format may take this model; ferryman plan lists them",
        )
    free = {size for spec in signature.inputs for size in spec.shape if isinstance(size, str)}
    outputs = (
        tuple(want if want in free else got for want, got in zip(spec.shape, shape, strict=True))
        for spec, shape in zip(signature.outputs, shapes, strict=True)
    )
    return Signature(
        inputs=signature.inputs,
        outputs=tuple(
            spec.model_copy(update={"shape": shape}) for spec, shape in zip(signature.outputs, outputs, strict=True)
        ),
    )


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
