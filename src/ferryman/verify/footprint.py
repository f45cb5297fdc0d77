"""What a fresh process needs to answer: peak memory, and seconds from its start to the first answer."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ferryman.core.artifact import Artifact
from ferryman.core.errors import StepError
from ferryman.core.proof import Footprint
from ferryman.core.signature import Tensors
from ferryman.verify._probe import write_request

_TIMEOUT_S = 120.0


def measure_footprint(artifact: Artifact, inputs: Tensors, *, threads: int, calls: int = 8) -> Footprint:
    """Load the artifact in a process of its own and answer `calls` times; raises StepError if that process dies."""
    with tempfile.TemporaryDirectory(prefix="ferryman-probe-") as folder:
        write_request(Path(folder), artifact, inputs, threads=threads, calls=calls)
        command = [sys.executable, "-m", "ferryman.verify._probe", folder]
        started = time.time()
        try:
            # our own interpreter and module, no shell
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603
        except subprocess.TimeoutExpired:
            raise StepError(
                f"{artifact.format} model gave no answer in {_TIMEOUT_S:.0f} s in a fresh process"
            ) from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise StepError(f"{artifact.format} model failed in a fresh process: {last}")
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    return Footprint(
        rss_mb=answer["rss_bytes"] / 1e6,
        cold_start_s=max(answer["first_answer_at"] - started, 0.0),
        size_mb=artifact.size_bytes / 1e6,
    )
