"""Ask a task's JavaScript in a real Node, which is started once."""

import hashlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np

from ferryman.core.signature import Array

_LOOP = """
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
const KINDS = {
  float32: Float32Array, float64: Float64Array, uint8: Uint8Array, int8: Int8Array, int32: Int32Array,
  int64: BigInt64Array,
};
const read = (path) => new Uint8Array(readFileSync(path)).buffer;
const picture = ({ file, width, height }) => ({ data: new Uint8ClampedArray(read(file)), width, height });
const tensor = ({ file, dtype, shape }) => ({ dtype, shape, data: new KINDS[dtype](read(file)) });
const tensors = (about) => Object.fromEntries(about.map((one) => [one.name, tensor(one)]));
const number = (value) => (typeof value === "bigint" ? Number(value) : value);
const plain = (_key, value) => (ArrayBuffer.isView(value) ? Array.from(value) : number(value));
for await (const line of createInterface({ input: process.stdin })) {
  const { module, asked, pictures, outputs } = JSON.parse(line);
  try {
    const { preprocess, postprocess } = await import(module);
    const given = pictures?.map((one) => (one?.file ? picture(one) : one));
    const told = await eval(asked);
    console.log(JSON.stringify({ told }, plain));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error) }));
  }
}
"""


class Node:
    """Be a Node process that imports modules and calls them; raises RuntimeError for what they throw."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "loop.mjs").write_text(_LOOP, encoding="utf-8")
        self._process = subprocess.Popen(
            ["node", str(folder / "loop.mjs")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate(timeout=10)

    def ask(self, module: str, asked: str, **more: Any) -> Any:  # JSON
        """Give what an expression gives that sees `preprocess`, `postprocess`, `given` and `outputs`."""
        path = self._folder / f"{hashlib.sha256(module.encode()).hexdigest()[:16]}.mjs"
        if not path.exists():
            path.write_text(module, encoding="utf-8")
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps({"module": str(path), "asked": asked, **more}) + "\n")
        self._process.stdin.flush()
        reply = json.loads(self._process.stdout.readline())
        if "error" in reply:
            raise RuntimeError(reply["error"])
        return reply["told"]

    def preprocess(self, module: str, pictures: Sequence[Array]) -> dict[str, Array]:
        """Give the input tensors of some pictures (BGR)."""
        told = self.ask(module, "preprocess(given).inputs", pictures=[self._picture(one) for one in pictures])
        return {name: _array(about) for name, about in told.items()}

    def postprocess(self, module: str, items: Sequence[Any], outputs: Mapping[str, Array]) -> Any:
        """Give the answers for outputs; `items` are pictures (BGR), or contexts as they are."""
        pictures = [self._picture(item) if isinstance(item, np.ndarray) else item for item in items]
        are_pictures = any(isinstance(item, np.ndarray) for item in items)
        batch = "preprocess(given)" if are_pictures else "{contexts: given}"
        about = [{"name": name, **self._file(values, name)} for name, values in outputs.items()]
        asked = f"postprocess(tensors(outputs), {batch})"
        return self.ask(module, asked, pictures=pictures, outputs=about)

    def _picture(self, picture: Array) -> dict[str, Any]:
        pixels = cv2.cvtColor(np.asarray(picture, np.uint8), cv2.COLOR_BGR2RGBA)
        return {**self._file(pixels, "picture"), "width": picture.shape[1], "height": picture.shape[0]}

    def _file(self, values: Array, name: str) -> dict[str, Any]:
        path = self._folder / f"{name}.bin"
        np.ascontiguousarray(values).tofile(path)
        return {"file": str(path), "dtype": values.dtype.name, "shape": list(values.shape)}


def _array(about: Mapping[str, Any]) -> Array:
    flat = np.asarray(about["data"], np.uint16 if about["dtype"] == "float16" else about["dtype"])
    values = flat.view(np.float16) if about["dtype"] == "float16" else flat
    return values.reshape(about["shape"])
