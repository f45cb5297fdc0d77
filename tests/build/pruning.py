"""A step that really prunes the tiny detector: of 32 channels it needs three."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import onnx
import pytest
from onnx import numpy_helper

import ferryman.core.plugins
from ferryman.core.artifact import Artifact, digest_file
from ferryman.core.plugins import Plugin
from ferryman.core.step import StepContext

KEPT = 8
_LAYERS = ("stem", "down", "cell")


@dataclass(frozen=True)
class KeepFirstChannels:
    """Keep the first channels of every layer, and name the nodes anew."""

    name: ClassVar[str] = "keep-first"
    accepts: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "onnx"
    precision: ClassVar[str | None] = "pruned"
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    on_request: ClassVar[bool] = True
    cost_s: ClassVar[float] = 300.0

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        model = onnx.load(source.path)
        for weights in model.graph.initializer:
            layer, _, part = weights.name.partition("_")
            value = numpy_helper.to_array(weights)
            value = value[:KEPT] if layer in _LAYERS else value
            if part == "w" and layer != "stem":
                value = value[:, :KEPT]
            weights.CopyFrom(numpy_helper.from_array(value.copy(), weights.name))
        for node in model.graph.node:
            node.name = f"pruned/{node.name}"
        del model.graph.value_info[:]
        path = context.workspace / "pruned.onnx"
        onnx.save(model, path)
        return replace(source, path=path, digest=digest_file(path), precision="pruned")


@contextmanager
def pruning_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install this step, and no other that prunes."""
    load = ferryman.core.plugins._load
    cls = KeepFirstChannels

    def found(kind: str) -> tuple[dict[str, Plugin], dict[str, str]]:
        healthy, broken = load(kind)
        if kind != "steps":
            return healthy, broken
        others: dict[str, Any] = {name: one for name, one in healthy.items() if one.cls.precision != "pruned"}
        return {**others, cls.name: Plugin("steps", cls.name, "tests", "Keeps the first channels.", "", cls)}, broken

    with monkeypatch.context() as patch:
        patch.setattr(ferryman.core.plugins, "_load", found)
        yield
