"""Bring an ONNX model's external data into the model, from its own folder and nowhere else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ferryman.core.artifact import digest_file
from ferryman.core.errors import SourceError
from ferryman.sources._onnx_graph import Model, graphs_of

_MAX_TOTAL_BYTES = 2**31 - 1


def inline_external_data(model: Model, folder: Path) -> list[str]:
    """Load tensors that lie in other files; gives what was done. Refuses locations outside of `folder`."""
    files: dict[str, Path] = {}
    total_bytes = 0
    for tensor in _tensors(model):
        if tensor.data_location != 1:
            continue
        settings = {entry.key: entry.value for entry in tensor.external_data}
        location = settings.get("location", "")
        if location not in files:
            files[location] = _resolve(location, folder, tensor.name)
        content = _read(files[location], settings, tensor.name)
        total_bytes += len(content)
        if total_bytes > _MAX_TOTAL_BYTES:
            raise SourceError(
                "the model's external data is over 2.1 GB, more than one ONNX file holds",
                hint="Ferryman keeps a model in one file: use a smaller model, or half precision weights",
            )
        tensor.raw_data = content
        tensor.ClearField("data_location")
        del tensor.external_data[:]
    return [f"weights from {', '.join(sorted(files))} were put into the model's one file"] if files else []


def digest_external_data(path: Path) -> list[str]:
    """Give the digests of the other files that tensors lie in; what can't be read is for `open` to refuse."""
    if path.is_dir() or b"location" not in path.read_bytes():
        return []
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception:  # noqa: BLE001 - a damaged file: opening it says what is wrong
        return []
    settings = [{entry.key: entry.value for entry in tensor.external_data} for tensor in _tensors(model)]
    locations = sorted({entry["location"] for entry in settings if "location" in entry})
    files = [path.parent / location for location in locations]
    return [digest_file(file) for file in files if file.is_file()]


def _tensors(model: Model) -> Iterator[Any]:  # onnx.TensorProto
    for graph in graphs_of(model.graph):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        yield from _attribute_tensors(graph.node)
    for function in model.functions:
        yield from _attribute_tensors(function.node)


def _attribute_tensors(nodes: Any) -> Iterator[Any]:  # repeated onnx.NodeProto -> onnx.TensorProto
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _resolve(location: str, folder: Path, tensor: str) -> Path:
    path = folder / location
    root = folder.resolve()
    if not location or "\0" in location or Path(location).is_absolute() or not path.resolve().is_relative_to(root):
        raise SourceError(
            f"tensor '{tensor}' wants its data from {location!r}, which is outside of the model's folder",
            hint=f"put the data file into {folder} and export the model again with a plain file name",
        )
    if not path.is_file():
        raise SourceError(
            f"the model's data file '{location}' is missing (tensor '{tensor}', looked for {path})",
            hint="copy it beside the model: an .onnx file with external data does not work alone",
        )
    return path


def _read(path: Path, settings: dict[str, str], tensor: str) -> bytes:
    size_bytes = path.stat().st_size
    try:
        offset = int(settings.get("offset", "0"))
        length = int(settings.get("length", size_bytes - offset))
    except ValueError:
        offset = length = -1
    if offset < 0 or length < 0 or offset + length > size_bytes:
        raise SourceError(
            f"tensor '{tensor}' wants bytes {settings.get('offset', 0)} to +{settings.get('length')} of {path.name}, "
            f"which has {size_bytes}",
            hint="the data file is cut short or belongs to another model: copy both again",
        )
    with path.open("rb") as stream:
        stream.seek(offset)
        return stream.read(length)
