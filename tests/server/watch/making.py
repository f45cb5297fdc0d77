"""A bundle that knows what its requests looked like."""

from pathlib import Path
from typing import Any

import numpy as np

from ferryman.bundle.write import write_bundle
from ferryman.core.bundle import Bundle, Golden
from ferryman.core.deployment import parse_deployment
from ferryman.core.plugins import find, runtime_for
from ferryman.core.proof import Proof
from ferryman.monitor.baseline import make_baseline
from ferryman.monitor.signals.read import Signals
from tests.bundle.making import COLUMNS, describe, make_proof, make_table_model

Row = dict[str, float]


def make_rows(count: int, *, seed: int, shift: float = 0.0) -> list[Row]:
    """Draw rows of a table; `shift` moves the first column, in its standard deviations."""
    drawn = np.random.default_rng(seed).normal(size=(count, len(COLUMNS)))
    drawn[:, 0] += shift
    return [dict(zip(COLUMNS, (float(value) for value in row), strict=True)) for row in drawn]


def bundle_watched(destination: Path, **sections: Any) -> Bundle:
    """Write a bundle of a table's model with a baseline of 500 rows; `sections` are more of its ferryman.toml."""
    return bundle_proven(destination, make_proof("table"), **sections)


def bundle_proven(destination: Path, proof: Proof, /, **sections: Any) -> Bundle:
    """Write such a bundle with a proof."""
    model = make_table_model(destination.parent / f"model-of-{destination.name}")
    artifact = describe(model)
    task = {"kind": "tabular", "columns": list(COLUMNS), "labels": ["light", "heavy"], "missing": False}
    told = {"model": {"name": "table", "source": model.name}, "task": task, **sections}
    deployment = parse_deployment(told, origin="test")
    session = runtime_for("onnx").require()().load(artifact, threads=1)
    bound = find("tasks", "tabular").require()(deployment.task, artifact.signature)
    rows = make_rows(500, seed=1)
    batch = bound.preprocess(rows)
    outputs = session.infer(batch.inputs)
    answers = bound.postprocess(outputs, batch)
    signals = Signals(deployment.task, artifact.signature)
    columns = signals.read(
        inputs=batch.inputs, items=rows, contexts=batch.contexts, answers=answers, outputs=outputs, rows=len(rows)
    )
    session.close()
    return write_bundle(
        destination,
        deployment=deployment,
        artifact=artifact,
        proof=proof,
        golden=[Golden(f"row-{place}", rows[place], answers[place]) for place in range(2)],
        tolerance=dict(bound.tolerance),
        baseline=make_baseline(columns).to_json(),
        versions={},
    )
