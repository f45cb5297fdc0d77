"""Make hostile files of each kind inside a whole project; every maker gives the command line that meets them."""

import base64
import io
import json
import os
import pickle
import shutil
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray

from ferryman.bundle.layout import encode_json, identity_digest
from ferryman.bundle.pack import pack
from ferryman.core.bundle import Manifest
from tests.tasks.making import CMYK_JPEG, encode, exif_jpeg, png

Words = list[str]
Attack = Callable[[Path], Words]
"""Spoil something in a project's folder and give the words after `ferryman`."""

PLAN = ["plan"]
BUILD = ["build"]


def toml(old: str, new: str, verb: Words = PLAN) -> Attack:
    """Change a passage of ferryman.toml."""

    def attack(folder: Path) -> Words:
        path = folder / "ferryman.toml"
        text = path.read_text(encoding="utf-8")
        assert old in text, old
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return verb

    return attack


def content(name: str, payload: bytes, words: Words) -> Attack:
    """Write a file, over one that may be there."""

    def attack(folder: Path) -> Words:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(payload)
        return words

    return attack


def without(name: str, words: Words) -> Attack:
    """Remove a file or folder."""

    def attack(folder: Path) -> Words:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return words

    return attack


def nothing(*words: str) -> Attack:
    """Leave all as it is: the command line itself is the attack."""
    return lambda _: list(words)


def model(change: Callable[[Any, Path], None]) -> Attack:  # onnx.ModelProto
    """Change the project's ONNX model."""

    def attack(folder: Path) -> Words:
        path = folder / "squares.onnx"
        loaded = onnx.load(path)
        change(loaded, folder)
        path.write_bytes(loaded.SerializeToString())
        return PLAN

    return attack


def truncated_model(folder: Path) -> Words:
    path = folder / "squares.onnx"
    path.write_bytes(path.read_bytes()[:-5000])
    return PLAN


def lower_opset(loaded: Any, _: Path) -> None:  # onnx.ModelProto
    loaded.opset_import[0].version = 8


def foreign_operator(loaded: Any, _: Path) -> None:  # onnx.ModelProto
    loaded.graph.node[-1].domain = "com.nobody"
    loaded.opset_import.add(domain="com.nobody", version=1)


def list_weights_as_inputs(loaded: Any, _: Path) -> None:  # onnx.ModelProto
    for tensor in loaded.graph.initializer:
        loaded.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))


def external(location: str, *, link_to: str = "") -> Attack:
    """Let a weight's bytes lie elsewhere; `link_to` makes that a symbolic link."""

    def change(loaded: Any, folder: Path) -> None:  # onnx.ModelProto
        tensor = loaded.graph.initializer[0]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.ClearField("raw_data")
        tensor.external_data.add(key="location", value=location)
        if link_to:
            os.symlink(link_to, folder / location)

    return model(change)


class Bomb:
    """Write a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
        return os.mkdir, ("unpickled",)


def pickled(folder: Path) -> Words:
    (folder / "model.pkl").write_bytes(pickle.dumps(Bomb()))
    return toml("squares.onnx", "model.pkl")(folder)


def safetensors() -> bytes:
    header = json.dumps({"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4)


def as_source(name: str, payload: bytes) -> Attack:
    """Name another file as the model."""

    def attack(folder: Path) -> Words:
        (folder / name).write_bytes(payload)
        return toml("squares.onnx", name)(folder)

    return attack


def square() -> NDArray[np.uint8]:
    """Draw one red square in the cell of row 2 and column 7."""
    picture = np.zeros((160, 160, 3), np.uint8)
    picture[32:48, 112:128, 2] = 255
    return picture


def turned() -> bytes:
    """Write the square as a camera held upright would: stored on its side, with a note to turn it."""
    return exif_jpeg(np.ascontiguousarray(np.rot90(square())), 6)


def animated() -> bytes:
    animation = cv2.Animation()
    animation.frames = [square(), np.zeros_like(square())]
    animation.durations = [100, 100]
    return bytes(cv2.imencodeanimation(".gif", animation)[1].tobytes())


PICTURES = {
    "cmyk": base64.b64decode(CMYK_JPEG),
    "16-bit": encode(".png", square().astype(np.uint16) * 257),
    "grey": encode(".png", square()[:, :, 2]),
    "alpha": encode(".png", np.dstack([square(), np.full((160, 160), 9, np.uint8)])),
    "turned": turned(),
    "animated": animated(),
    "cut": encode(".jpg", square())[:400],
    "bomb": png(30_000, 30_000, 1, 0, bytes(30_000 // 8 + 1) * 30_000),
}


def asked(name: str, payload: bytes) -> Attack:
    """Ask the bundle about a picture."""
    return content(name, payload, ["infer", "dist/squares", name, "--json"])


def flipped(name: str) -> Attack:
    """Turn a bit in the middle of a bundle's file."""

    def attack(folder: Path) -> Words:
        path = folder / "dist" / "squares" / name
        payload = bytearray(path.read_bytes())
        payload[len(payload) // 2] ^= 1
        path.write_bytes(payload)
        return ["inspect", "dist/squares"]

    return attack


def forged(change: Callable[[dict[str, Any]], None]) -> Attack:
    """Change a bundle's manifest and make its digest fit again, as somebody would who means it."""

    def attack(folder: Path) -> Words:
        path = folder / "dist" / "squares" / "bundle.json"
        raw = json.loads(path.read_bytes())
        change(raw)
        if raw["spec_version"] == 1:
            raw["digest"] = identity_digest(Manifest.model_validate(raw))
        path.write_bytes(encode_json(raw))
        return ["serve", "dist/squares", "--port", "0"]

    return attack


def cut_ferry(folder: Path) -> Words:
    path = pack(folder / "dist" / "squares", folder / "squares.ferry")
    path.write_bytes(path.read_bytes()[:20_000])
    return ["verify", "squares.ferry"]


def escaping_ferry(folder: Path) -> Words:
    path = pack(folder / "dist" / "squares", folder / "squares.ferry")
    with tarfile.open(path, "a") as tar:
        member = tarfile.TarInfo("../escaped.txt")
        member.size = 1
        tar.addfile(member, io.BytesIO(b"!"))
    return ["inspect", "squares.ferry"]


def linked_bundle(folder: Path) -> Words:
    part = folder / "dist" / "squares" / "baseline.json"
    part.unlink()
    part.symlink_to("/etc/hostname")
    return ["inspect", "dist/squares"]


def relabel(line: str) -> Attack:
    """Write a line over a picture's labels."""
    return content("evaluation/000.txt", line.encode(), BUILD)


def tabular(rows: str, words: Words = BUILD) -> Attack:
    """Make the project one of a table's model with these rows of data."""

    def attack(folder: Path) -> Words:
        (folder / "rows.csv").write_text(rows, encoding="utf-8")
        (folder / "ferryman.toml").write_text(
            '[model]\nname = "table"\nsource = "table.onnx"\n'
            '[task]\nkind = "tabular"\ncolumns = ["width", "height", "weight"]\nlabels = ["light", "heavy"]\n'
            '[data]\nevaluation = { items = "rows.csv", target = "kind" }\n'
            '[build]\ncandidates = ["onnx-fp32"]\n',
            encoding="utf-8",
        )
        return words

    return attack


def arrays(payload: bytes) -> Attack:
    """Make the project one of plain tensors with these calibration data."""

    def attack(folder: Path) -> Words:
        (folder / "values.npz").write_bytes(payload)
        (folder / "ferryman.toml").write_text(
            '[model]\nname = "affine"\nsource = "affine.onnx"\n[task]\nkind = "tensor"\n'
            '[data]\ncalibration = "values.npz"\n[build]\ncandidates = ["onnx-fp32"]\n',
            encoding="utf-8",
        )
        return BUILD

    return attack


def npz(**named: NDArray[Any]) -> bytes:  # arrays of any dtype
    stream = io.BytesIO()
    np.savez(stream, **named)  # type: ignore[arg-type]  # numpy's stub takes allow_pickle for one of the arrays
    return stream.getvalue()
