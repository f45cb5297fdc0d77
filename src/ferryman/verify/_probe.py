"""The other side of `footprint`: runs in a process of its own, loads one artifact and reports as JSON."""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from ferryman.core.artifact import Artifact
from ferryman.core.plugins import runtime_for
from ferryman.core.signature import Signature, Tensors


def write_request(folder: Path, artifact: Artifact, inputs: Tensors, *, threads: int, calls: int) -> None:
    """Write what the probe is to load and answer."""
    text = {name: value.tolist() for name, value in inputs.items() if value.dtype.kind in "OUS"}
    request = {
        "path": str(artifact.path.resolve()),
        "format": artifact.format,
        "precision": artifact.precision,
        "digest": artifact.digest,
        "signature": artifact.signature.model_dump(mode="json"),
        "loader": dict(artifact.loader),
        "threads": threads,
        "calls": calls,
        "text": text,
    }
    (folder / "request.json").write_text(json.dumps(request))
    numbers: dict[str, Any] = {name: value for name, value in inputs.items() if name not in text}  # savez's own type
    np.savez(folder / "inputs.npz", **numbers)


def _run(folder: Path) -> dict[str, Any]:  # JSON
    request = json.loads((folder / "request.json").read_text())
    with np.load(folder / "inputs.npz") as stored:
        inputs = {name: stored[name] for name in stored.files}
    inputs |= {name: np.array(value, object) for name, value in request["text"].items()}
    artifact = Artifact(
        path=Path(request["path"]),
        format=request["format"],
        signature=Signature.model_validate(request["signature"]),
        digest=request["digest"],
        precision=request["precision"],
        loader=request["loader"],
    )
    session = runtime_for(artifact.format).require()().load(artifact, threads=request["threads"])
    session.infer(inputs)
    first_answer_at = time.time()
    for _ in range(request["calls"] - 1):
        session.infer(inputs)
    return {
        "first_answer_at": first_answer_at,
        "rss_bytes": _peak_rss_bytes(),
    }


def _peak_rss_bytes() -> int:
    """Give this process's own peak; ru_maxrss would also count the parent's, which survives exec."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_run(Path(sys.argv[1]))) + "\n")
