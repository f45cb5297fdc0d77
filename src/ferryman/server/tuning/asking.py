"""The golden samples of a bundle as requests."""

import io
from collections.abc import Mapping

import numpy as np

from ferryman.client.load import infer_request
from ferryman.core.bundle import Bundle
from ferryman.core.errors import BundleError
from ferryman.core.signature import Array, TensorSpec
from ferryman.core.task import Item


def requests_of(bundle: Bundle, *, host: str) -> list[bytes]:
    """Give one HTTP request for each golden sample; raises BundleError for a bundle without any."""
    if not bundle.golden:
        raise BundleError(f"bundle {bundle.manifest.name} has no golden samples to ask with", hint="build it again")
    return [infer_request(bundle.manifest.name, _sendable(golden.item, bundle), host=host) for golden in bundle.golden]


def _sendable(item: Item, bundle: Bundle) -> Item:
    """Give an item in a form that travels: tensors with their batch dimension, pictures encoded."""
    inputs = bundle.artifact.signature.inputs
    if isinstance(item, np.ndarray):
        if bundle.deployment.task.kind != "tensor":
            return _encoded(item)
        item = {inputs[0].name: item}
    if isinstance(item, Mapping) and item and all(isinstance(value, np.ndarray) for value in item.values()):
        return {spec.name: _batched(np.asarray(item[spec.name]), spec) for spec in inputs}
    return item


def _batched(array: Array, spec: TensorSpec) -> Array:
    return array[None] if array.ndim == len(spec.shape) - 1 else array


def _encoded(picture: Array) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture[:, :, ::-1])).save(stream, "PNG")  # it has red first
    return stream.getvalue()
