"""Convert an ONNX model to ncnn with pnnx, and answer once with what was written."""

import math
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ncnn
import numpy as np


def convert(request: dict[str, Any], tell: Callable[..., None]) -> dict[str, Any]:
    """Write the folder `target` with model.param and model.bin; `half` keeps weights in 16 bits."""
    target, folder = Path(request["target"]), Path(request["scratch"])
    shutil.copyfile(request["source"], folder / "model.onnx")  # pnnx writes beside what it reads
    tell("ncnn", note="converting")
    _pnnx(folder, request, half=False)
    _check_layers((folder / "model.ncnn.param").read_text(encoding="utf-8"))
    weights = _in_half(folder, request, tell) if request["half"] else (folder / "model.ncnn.bin").read_bytes()
    text = (folder / "model.ncnn.param").read_text(encoding="utf-8")
    target.mkdir()
    (target / "model.param").write_text(_named(text, request), encoding="utf-8")
    (target / "model.bin").write_bytes(weights)
    tell("ncnn", note="checking")
    return {"shapes": _answer_once(target, request)}


def _in_half(folder: Path, request: dict[str, Any], tell: Callable[..., None]) -> bytes:
    """Give the weights in 16 bits: ours, or pnnx's own where we can't read what it wrote."""
    text, weights = (folder / "model.ncnn.param").read_text(encoding="utf-8"), folder / "model.ncnn.bin"
    if (made := halved(text, weights.read_bytes())) is not None:
        return made
    tell("ncnn", note="16 bits by the converter's own way: it rounds tiny weights to 0")
    _pnnx(folder, request, half=True)
    return weights.read_bytes()


_HALF_TAG = (0x01306B47).to_bytes(4, "little")
_WHOLE_TAG = bytes(4)
_SMALL = 2048
"""Weights of fewer values stay in float: those of first and of depthwise layers, whose rounding all others amplify."""


def halved(text: str, weights: bytes) -> bytes | None:
    """Give a model's weights in 16 bits, each rounded to the nearest; None for layers whose weights aren't known here.

    pnnx itself makes 0 of what is smaller than 2^-14: in nets whose first layer takes pixels of 0 to 255, many weights.
    """
    made, place = [], 0
    for line in text.splitlines()[2:]:
        kind, options = line.split()[0], _options(line)
        for count, is_tagged in _blobs(kind, options):
            start = place + 4 * is_tagged
            values = np.frombuffer(weights[start : start + 4 * count], np.float32)
            if values.size != count or (is_tagged and weights[place:start] != _WHOLE_TAG):
                return None
            with np.errstate(over="ignore"):
                half = values.astype(np.float16)
            is_kept = not is_tagged or count < _SMALL or not np.isfinite(half).all()
            made.append(
                weights[place : start + 4 * count] if is_kept else _HALF_TAG + half.tobytes() + bytes(count % 2 * 2)
            )
            place = start + 4 * count
    return b"".join(made) if place == len(weights) else None


def _options(line: str) -> dict[int, int]:
    """Give a layer's whole-numbered options by their numbers."""
    words = line.split()
    pairs = (word.split("=") for word in words[4 + int(words[2]) + int(words[3]) :])
    return {int(key): int(value) for key, value in pairs if value.lstrip("-").isdigit()}


def _blobs(kind: str, options: dict[int, int]) -> list[tuple[int, bool]]:
    """Give what of a layer lies in model.bin: how many values, and whether a tag in front says their type."""
    if kind.startswith(("Convolution", "Deconvolution")):
        return [(options[6], True), *([(options[0], False)] if options.get(5) else [])]
    if kind == "InnerProduct":
        return [(options[2], True), *([(options[0], False)] if options.get(1) else [])]
    if kind == "MemoryData":
        return [(math.prod(size for size in (options.get(key, 0) for key in (0, 1, 2, 11)) if size), False)]
    times = {"BatchNorm": 4, "Scale": 1 + options.get(1, 0), "PReLU": 1}.get(kind, 0)
    return [(options.get(0, 0), False)] * times


def _pnnx(folder: Path, request: dict[str, Any], *, half: bool) -> None:
    # not imported: pnnx's Python module wants torch, its program doesn't
    program = next(Path(ncnn.__file__).parent.parent.glob("pnnx/pnnx*"), None)
    if program is None:
        raise FileNotFoundError("the program pnnx is missing in this toolchain")
    shapes = ",".join(str(part["shape"]).replace(" ", "") for part in request["inputs"])
    words = [str(program), "model.onnx", f"fp16={int(half)}", f"inputshape={shapes}"]
    done = subprocess.run(  # noqa: S603 - the toolchain's own program, and no shell
        words, cwd=folder, capture_output=True, text=True, errors="replace", check=False
    )
    print(done.stdout[-20000:], done.stderr[-20000:], flush=True)
    if done.returncode < 0:
        raise Refused(
            f"pnnx crashed (signal {-done.returncode}); the cause is probably one of {', '.join(request['unusual'])}",
            hint=_WAY_OUT,
        )
    left = [line for line in (done.stdout + done.stderr).splitlines() if " is not supported" in line]
    if left:
        raise Refused(f"pnnx can't convert this model: {'; '.join(dict.fromkeys(left))[:300]}", hint=_WAY_OUT)
    if done.returncode or not (folder / "model.ncnn.bin").is_file():
        raise RuntimeError(f"pnnx ended with code {done.returncode} and wrote no model")


_WAY_OUT = "export the model without it, or leave ncnn out of [build] formats"


def _check_layers(text: str) -> None:
    """Refuse layers that ncnn doesn't have: pnnx writes them down and ends without an error."""
    for line in text.splitlines()[2:]:
        kind, name = line.split()[:2]
        if ncnn.layer_to_index(kind) < 0:
            raise Refused(f"ncnn has no layer '{kind}' ('{name}')", hint=_WAY_OUT)


def _named(text: str, request: dict[str, Any]) -> str:
    """Give inputs and outputs the names of the source, where a name can stand in ncnn's format."""
    wanted = {f"in{index}": part["name"] for index, part in enumerate(request["inputs"])}
    wanted |= {f"out{index}": name for index, name in enumerate(request["outputs"])}
    lines = text.splitlines()
    taken = {word for line in lines for word in line.split()}
    fitting = {
        old: new
        for old, new in wanted.items()
        if not (set(new) & set(" \t=")) and new not in taken and not new.isdigit()
    }
    renamed = lines[:2]
    for line in lines[2:]:
        words = line.split()
        last = 4 + int(words[2]) + int(words[3])
        words[4:last] = [fitting.get(word, word) for word in words[4:last]]
        renamed.append(" ".join(words))
    return "\n".join(renamed) + "\n"


def _answer_once(folder: Path, request: dict[str, Any]) -> list[list[int]]:
    """Give the shapes of the outputs; what can't be loaded whole is refused."""
    net = ncnn.Net()
    net.opt.use_vulkan_compute = False
    if net.load_param(str(folder / "model.param")) or net.load_model(str(folder / "model.bin")):
        raise RuntimeError("ncnn can't load what pnnx wrote: an operator is missing, or the disk is full")
    extractor = net.create_extractor()
    for name, part in zip(net.input_names(), request["inputs"], strict=True):
        extractor.input(name, ncnn.Mat(np.zeros(part["shape"], np.float32), batch_index=0).clone())
    shapes = []
    for name in net.output_names():
        code, value = extractor.extract(name)
        if code:
            raise RuntimeError(f"ncnn can't compute the output '{name}' (code {code})")
        shapes.append([1, *np.array(value).shape])
    # ncnn doesn't keep a batch of 1 in all places; the values lie in the same order.
    wanted = request["output_shapes"]
    is_same = len(wanted) == len(shapes) and all(map(_has_size, wanted, shapes))
    return wanted if is_same else shapes


def _has_size(wanted: list[Any], shape: list[int]) -> bool:
    return all(isinstance(size, int) for size in wanted) and math.prod(wanted) == math.prod(shape)
