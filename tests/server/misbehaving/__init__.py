"""A model that goes wrong on demand, for tests of what a server makes of it.

`bundle_misbehaving(folder)` writes a bundle of it. The process that loads it needs `PLUGIN` on its PYTHONPATH (see
`with_plugin`): there lies a runtime plug-in with its own dist-info, found as any installed one.

The model takes `order`, float32 [batch, 2], and gives `answer` = order + 1, of the same shape. The first number of each
row is a code, the second its argument:

ANSWER nothing else | SEGFAULT | EXIT argument = exit code | ABORT | HANG for ever | SLEEP argument seconds |
LEAK argument MB | NAN answers not-a-number | HOLD_GIL argument seconds without letting another thread run |
RAISE RuntimeError | REFUSE InputError | DATES answers dates, which are no tensor | COUNT argument seconds, then answers
how many calls there were

Options of the bundle: `wrong_after` calls, or while the file `wrong_file` is there, every answer is 0.5 too high, so
that golden samples fail. While `crash_file` or `hang_file` is there, loading segfaults or hangs. `scales_over_batch`
rounds as dynamic INT8 does, by a scale of the whole batch. `loses_rows` answers the first row only. `releases_gil` lets
several calls run at once. It holds `ballast_mb` from its load on. `batch` fixes the first dimension.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from ferryman.bundle.write import write_bundle
from ferryman.core.artifact import Artifact, digest_path
from ferryman.core.bundle import Bundle, Golden
from ferryman.core.deployment import parse_deployment
from ferryman.core.signature import Signature, TensorSpec
from tests.bundle.making import make_proof

PLUGIN = Path(__file__).parent / "plugin"
ANSWER, SEGFAULT, EXIT, HANG, SLEEP, LEAK, NAN, HOLD_GIL, RAISE, REFUSE, ABORT, DATES, COUNT = range(13)

Option = str | float | bool | None


def with_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processes that a test starts find the runtime."""
    known = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", f"{PLUGIN}:{known}" if known else str(PLUGIN))


def bundle_misbehaving(
    destination: Path, *, name: str = "misbehaving", batch: int | None = None, **options: Option
) -> Bundle:
    """Write a bundle of the model with two golden samples; the options are in the module's description."""
    model = destination.parent / f"model-of-{destination.name}.json"
    model.parent.mkdir(parents=True, exist_ok=True)
    model.write_text(json.dumps(options))
    size = "batch" if batch is None else batch
    signature = Signature(
        inputs=(TensorSpec(name="order", dtype="float32", shape=(size, 2)),),
        outputs=(TensorSpec(name="answer", dtype="float32", shape=(size, 2)),),
    )
    artifact = Artifact(model, "misbehaving", signature, digest_path(model), made_by=("test",))
    task = {"kind": "tensor"}
    deployment = parse_deployment({"model": {"name": name, "source": model.name}, "task": task}, origin="test")
    return write_bundle(
        destination,
        deployment=deployment,
        artifact=artifact,
        proof=make_proof(name),
        golden=[_golden(place, batch or 1) for place in (0.25, 0.5)],
        tolerance={"max_rel_diff": 1e-3},
        baseline={},
        versions={},
    )


def _golden(argument: float, rows: int) -> Golden:
    order = np.array([[ANSWER, argument]] * rows, np.float32)
    answer = {"dtype": "float32", "shape": [rows, 2], "data": (order + 1).tolist()}
    return Golden(f"argument-{argument}", {"order": order}, {"outputs": {"answer": answer}})
