"""Bind a task's spec to a model as plain JSON, every choice made: what its JavaScript reads."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from ferryman.core.errors import ConfigError
from ferryman.core.signature import Signature, TensorSpec
from ferryman.core.task import TaskSpec
from ferryman.tasks.cells import bind_table
from ferryman.tasks.classify import ClassifySpec
from ferryman.tasks.decoders import DenseDecoder, bind_decoder
from ferryman.tasks.detect_spec import DetectSpec
from ferryman.tasks.image import ImagePort, bind_image
from ferryman.tasks.labels import require_resolved
from ferryman.tasks.listed_boxes import ListsDecoder, RowsDecoder
from ferryman.tasks.ranking import bind_scores
from ferryman.tasks.tabular import TabularSpec, bind_outputs

Json = dict[str, Any]  # JSON


def bind_spec(spec: TaskSpec, signature: Signature) -> Json:
    """Give what the JavaScript of a task reads; raises ConfigError for a kind of task that has none."""
    if spec.kind not in _KINDS:
        raise ConfigError(
            f"tasks of kind '{spec.kind}' have no JavaScript", hint=f"these kinds have it: {', '.join(_KINDS)}"
        )
    return {"kind": spec.kind, **_KINDS[spec.kind](spec, signature)}


def _detect(spec: DetectSpec, signature: Signature) -> Json:
    labels = require_resolved(spec.labels)
    port = bind_image(spec.input, signature)
    decoder = bind_decoder(spec, signature, (port.height, port.width), len(labels) if labels else None)
    return {
        "input": _picture(port),
        "labels": labels,
        "decoder": _decoder(cast(DenseDecoder | RowsDecoder | ListsDecoder, decoder)),
        "nms": {
            "suppresses": spec.decoder not in ("nms", "end2end"),
            "iou": spec.nms.iou,
            "max": spec.nms.max,
            "agnostic": spec.nms.agnostic,
        },
        "showScore": spec.show_score,
    }


def _classify(spec: ClassifySpec, signature: Signature) -> Json:
    labels = require_resolved(spec.labels)
    return {
        "input": _picture(bind_image(spec.input, signature)),
        "labels": labels,
        "output": bind_scores(spec.output, signature, labels),
        "activation": spec.activation,
        "topK": spec.top_k,
    }


def _tabular(spec: TabularSpec, signature: Signature) -> Json:
    port = bind_table(spec.columns, spec.layout, signature)
    label, probabilities, prediction = bind_outputs(spec.outputs, signature)
    width = port.matrix.shape[1] if port.matrix else len(port.single)
    return {
        "table": {
            "columns": port.columns,
            "width": width if isinstance(width, int) else None,
            "matrix": {"name": port.matrix.name, "dtype": port.matrix.dtype} if port.matrix else None,
            "single": [
                {"column": part.column, "name": part.port.name, "dtype": part.port.dtype, "rank": len(part.port.shape)}
                for part in port.single
            ],
            "missing": bool(spec.missing),
        },
        "labels": require_resolved(spec.labels),
        "label": label,
        "probabilities": probabilities,
        "prediction": prediction,
    }


def _tensor(_spec: TaskSpec, signature: Signature) -> Json:
    return {"inputs": [_port(port) for port in signature.inputs]}


def _port(port: TensorSpec) -> Json:
    return {"name": port.name, "dtype": port.dtype, "shape": port.shape}


def _picture(port: ImagePort) -> Json:
    spec = port.spec
    gain, shift = port.gain_and_shift
    return {
        "name": port.name,
        "dtype": port.dtype,
        "height": port.height,
        "width": port.width,
        "fit": spec.fit,
        "anchor": spec.anchor,
        "pad": spec.pad,
        "channels": spec.channels,
        "layout": spec.layout,
        "resize": spec.resize,
        "resizeShort": spec.resize_short,
        # A float32 is exactly a JSON number: JavaScript multiplies by the same value.
        "gain": None if port.keeps_pixels else gain.tolist(),
        "shift": None if port.keeps_pixels else shift.tolist(),
    }


def _decoder(decoder: DenseDecoder | RowsDecoder | ListsDecoder) -> Json:
    if isinstance(decoder, DenseDecoder):
        strides = None if decoder.grid is None else list(dict.fromkeys(decoder.grid[:, 2].astype(np.int64).tolist()))
        return {
            "layout": "dense",
            "output": decoder.output,
            "isTransposed": decoder.is_transposed,
            "hasObjectness": decoder.has_objectness,
            "strides": strides,
            "score": decoder.score,
            "multiLabel": decoder.multi_label,
        }
    listed = {
        "boxFormat": decoder.box_format,
        "factor": decoder.factor.tolist(),
        "firstClass": decoder.first_class,
        "score": decoder.score,
    }
    if isinstance(decoder, RowsDecoder):
        return {"layout": "rows", "output": decoder.output, **listed}
    names = {"boxes": decoder.boxes, "scores": decoder.scores, "classes": decoder.classes, "count": decoder.count}
    return {"layout": "lists", **names, **listed}


_KINDS: dict[str, Callable[[Any, Signature], Json]] = {  # each kind's own spec
    "detect": _detect,
    "classify": _classify,
    "tabular": _tabular,
    "tensor": _tensor,
}
