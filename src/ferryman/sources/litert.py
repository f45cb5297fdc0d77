"""Open LiteRT (TensorFlow Lite) files."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

from ferryman.core.artifact import Artifact, digest_file
from ferryman.core.deployment import ModelSection
from ferryman.core.errors import SourceError
from ferryman.core.signature import Signature
from ferryman.sources._content import looks_like, read_head

_TIMEOUT_S = 300.0


class LiteRTSource:
    """Open a .tflite file; it is called once, in a process of its own, that a hostile file may crash."""

    name: ClassVar[str] = "litert"
    suffixes: ClassVar[tuple[str, ...]] = (".tflite", ".lite", ".litert")
    needs: ClassVar[tuple[str, ...]] = ("ai_edge_litert",)
    extra: ClassVar[str] = "litert"

    def recognises(self, path: Path) -> bool:
        """Tell whether the bytes begin as a flatbuffer with LiteRT's mark."""
        return read_head(path, 8)[4:8] == b"TFL3"

    def open(self, path: Path, model: ModelSection, workspace: Path) -> Artifact:
        """Read the signature: inputs as the file has them, quantized outputs as the real numbers that they stand for.

        Its precision is what its operators compute with.
        The artifact's `loader` tells scale and zero point of quantized inputs ("scaling").
        """
        if not self.recognises(path):
            raise SourceError(f"{path} is not a LiteRT model: it looks like {looks_like(path)}", hint="export it again")
        report = _probe(path)
        if "error" in report:
            raise SourceError(report["error"], hint=report["hint"])
        loader = {key: report[key] for key in ("scaling", "last_operators") if report[key]}
        signature = Signature.model_validate(report["signature"])
        return Artifact(path, self.name, signature, digest_file(path), report["precision"], loader=loader)


def _probe(path: Path) -> dict[str, Any]:  # JSON
    command = [sys.executable, "-m", "ferryman.sources._litert_probe", str(path.resolve())]
    try:
        # our own interpreter and module, no shell
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise SourceError(f"{path} gave no answer in {_TIMEOUT_S:.0f} s", hint="is it a LiteRT model?") from None
    if done.returncode < 0:
        raise SourceError(
            f"{path} crashes LiteRT (signal {-done.returncode}): it is damaged, or made to do harm",
            hint="convert it again from its source",
        )
    if done.returncode:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise SourceError(f"{path} can't be opened: {last}", hint="is it a whole, valid .tflite file?")
    report: dict[str, Any] = json.loads(done.stdout.decode().strip().splitlines()[-1])
    return report
