"""Build one case as a user would, and time what came out."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.cases.project import Case, Settings, start_project, vary, write_settings
from numpy.typing import NDArray

from ferryman import api
from ferryman.core.plugins import runtime_for
from ferryman.core.progress import Progress
from ferryman.core.proof import Accuracy, CandidateProof, Latency
from ferryman.core.runtime import available_cores
from ferryman.core.signature import Tensors
from ferryman.core.task import bind_task

Figures = dict[str, Any]  # JSON
_BLOCKS = 9
_TIMED, _UNTIMED = 10, 3


def measure_case(case: Case, folder: Path, progress: Progress) -> Figures:
    """Build from nothing, again, and with `prefer = "size"`; then set the winner beside ONNX Runtime FP32."""
    shutil.rmtree(folder, ignore_errors=True)
    settings = start_project(case, folder)
    first = api.build(folder, progress=progress)
    again = _build_in_a_new_process(folder)
    smallest = _build_variant(folder, settings, "smallest", contract={"prefer": "size"})
    plain = _build_variant(folder, settings, "plain", build={"candidates": ["onnx-fp32"], "repair": False})
    write_settings(folder, settings)
    proof = first.proof
    return {
        "summary": case.summary,
        "source": {"format": proof.source_format, "metric": proof.metric, "value": proof.source_value},
        "samples": proof.samples,
        "figures": {name: proof.source_figures[name] for name in ("map", "map50") if name in proof.source_figures},
        "candidates": [_candidate(candidate) for candidate in proof.candidates],
        "holds": proof.holds,
        "winner_by_latency": proof.winner,
        "winner_by_size": smallest.proof.winner,
        "first_build_s": round(first.seconds, 1),
        "again": again,
        "against_onnx_runtime": compare_with_onnx_runtime(first.bundle, plain.bundle.artifact.path),
        "noise": max((c.latency.noise for c in proof.candidates if c.latency), default=None),
        "machine": proof.machine,
        "versions": proof.versions,
    }


def _build_variant(folder: Path, settings: Settings, name: str, **sections: dict[str, Any]) -> api.Built:
    write_settings(folder, vary(settings, **sections))
    return api.build(folder, output=folder / "dist" / name)


def _build_in_a_new_process(folder: Path) -> Figures:
    """Run `ferryman build` once more: nothing changed, so all of it comes from the cache. Imports count."""
    started = time.monotonic()
    command = [sys.executable, "-m", "ferryman", "build", str(folder), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    wall_s = time.monotonic() - started
    answer = json.loads(done.stdout)
    return {"wall_s": round(wall_s, 2), "cached": answer["cached"], "ran": answer["ran"]}


def _candidate(candidate: CandidateProof) -> Figures:
    divergence, tries = candidate.divergence, candidate.attempts
    return {
        "name": candidate.name,
        "status": candidate.status,
        "reason": candidate.reason,
        **_accuracy(candidate.accuracy),
        "shift": candidate.agreement.get("score_shift"),
        "error": max(candidate.parity.max_rel.values(), default=None) if candidate.parity else None,
        **_latency(candidate.latency),
        "size_mb": candidate.footprint.size_mb if candidate.footprint else None,
        "rss_mb": candidate.footprint.rss_mb if candidate.footprint else None,
        "diverges_at": f"{divergence.op} {divergence.node}" if divergence else None,
        "diverges_db": divergence.sqnr_db if divergence else None,
        "tries": len(tries),
        "first_try": {name: value for name, value in tries[0].figures.items()} if tries else {},
        "repaired_by": tries[-1].label if candidate.status == "repaired" else None,
    }


def _accuracy(accuracy: Accuracy | None) -> Figures:
    if accuracy is None:
        return {"metric": None, "drop": None}
    return {
        "metric": accuracy.value,
        "drop": accuracy.drop,
        "drop_low": accuracy.drop_low,
        "drop_high": accuracy.drop_high,
    }


def _latency(latency: Latency | None) -> Figures:
    if latency is None:
        return {"min_ms": None, "p50_ms": None, "ratio": None, "noise": None}
    return {"min_ms": latency.min_ms, "p50_ms": latency.p50_ms, "ratio": latency.ratio, "noise": latency.noise}


def compare_with_onnx_runtime(bundle: api.Bundle, plain: Path) -> Figures:
    """Time the bundle's model and the float graph in onnxruntime itself, in blocks by turns, one request at a time.

    `min_ratio` divides the least times, `median_ratio` is the median over blocks. The
    control is the reference set beside itself in the same blocks: what differs from 1 there is noise here, too.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cores()
    options.log_severity_level = 3
    reference = onnxruntime.InferenceSession(str(plain), options, providers=["CPUExecutionProvider"])
    session = (
        runtime_for(bundle.artifact.format, serves=True).require()().load(bundle.artifact, threads=available_cores())
    )
    calls = [_inputs_of(bundle, index) for index in range(len(bundle.golden))]

    def ask_reference(inputs: Tensors) -> object:
        return reference.run(None, dict(inputs))

    ours, theirs, again = _time_in_blocks([session.infer, ask_reference, ask_reference], calls)
    session.close()
    return {
        "winner_min_ms": float(ours.min()),
        "onnx_runtime_min_ms": float(theirs.min()),
        "min_ratio": float(ours.min() / theirs.min()),
        "median_ratio": _ratio_of_medians(ours, theirs),
        "control_min_ratio": float(again.min() / theirs.min()),
        "control_median_ratio": _ratio_of_medians(again, theirs),
    }


def _inputs_of(bundle: api.Bundle, index: int) -> Tensors:
    task = bind_task(bundle.deployment.task, bundle.artifact.signature)
    size = bundle.artifact.signature.max_batch or 1
    return task.preprocess([bundle.golden[index].item] * size).inputs


def _time_in_blocks(asked: list[Callable[[Tensors], object]], calls: list[Tensors]) -> list[NDArray[np.float64]]:
    """Give the milliseconds of each, [blocks, calls of a block].

    Blocks and not single calls take turns, and the first calls of a block don't count: threads of ONNX Runtime spin
    for a while after each call, and take the cores from another engine that is asked right then.
    """
    times = np.empty((len(asked), _BLOCKS, _TIMED))
    places = list(range(len(asked)))
    for block in range(_BLOCKS):
        first = block % len(asked)
        for place in places[first:] + places[:first]:
            for call in range(-_UNTIMED, _TIMED):
                started = time.perf_counter()
                asked[place](calls[call % len(calls)])
                if call >= 0:
                    times[place, block, call] = (time.perf_counter() - started) * 1e3
    return list(times)


def _ratio_of_medians(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Give the median over blocks of the ratio of their medians."""
    return float(np.median(np.median(first, 1) / np.median(second, 1)))
