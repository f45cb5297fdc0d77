"""Realistic proofs and bundles for report tests; figures as measured on a small detector."""

from pathlib import Path

import numpy as np

from ferryman.core.artifact import Artifact
from ferryman.core.bundle import Bundle, FileEntry, Golden, Manifest
from ferryman.core.contract import Contract, judge
from ferryman.core.deployment import DataSection, Deployment, ModelSection
from ferryman.core.proof import Accuracy, Attempt, CandidateProof, Divergence, Footprint, Latency, Parity, Proof
from ferryman.core.signature import Signature, TensorSpec
from ferryman.core.task import TaskSpec

CONTRACT = Contract(metric="map", max_drop=0.01, p99_ms=60, at_rps=10, max_size_mb=3, max_rss_mb=300)
NAN = float("nan")


def candidate(
    name: str,
    *,
    status: str = "accepted",
    drop: float = 0.001,
    shift: float = 0.004,
    p50_ms: float = 14.2,
    size_mb: float = 1.31,
    reason: str = "",
    divergence: Divergence | None = None,
    attempts: tuple[Attempt, ...] = (),
) -> CandidateProof:
    runtime_format, _, precision = name.partition("-")
    latency = Latency(
        min_ms=p50_ms * 0.9, p50_ms=p50_ms, p95_ms=p50_ms * 1.3, p99_ms=p50_ms * 1.6,
        ratio=p50_ms / 17.0, noise=0.031, rounds=120,
        poisson_p99_ms=p50_ms * 2.4, poisson_rps=10.0, poisson_requests=400,
    )  # fmt: skip
    measured = {
        "max_drop": drop, "max_score_shift": shift, "p99_ms": latency.poisson_p99_ms,
        "max_size_mb": size_mb, "max_rss_mb": 121.0,
    }  # fmt: skip
    bins = np.linspace(0.025, 0.975, 20)
    source = tuple(float(round(400 * np.exp(-5 * middle) + 60 * middle)) for middle in bins)
    moved = tuple(
        float(round(400 * np.exp(-5 * middle * (1 + 9 * float(np.nan_to_num(shift)))) + 60 * middle)) for middle in bins
    )
    return CandidateProof(
        name=name, format=runtime_format, precision=precision or "fp32", digest="ab" * 32, status=status, reason=reason,
        steps=("clean", f"{runtime_format}-{precision}"),
        parity=Parity(max_abs={"output": 0.2}, max_rel={"output": 0.0021}, samples=16),
        agreement={"score_shift": shift, "unmatched": 0.01},
        accuracy=Accuracy(
            metric="map", value=0.339 - drop, source_value=0.339, drop=drop, drop_low=drop - 0.004,
            drop_high=drop + 0.005, samples=128, figures={"map50": 0.5},
        ),
        latency=latency, footprint=Footprint(rss_mb=121.0, cold_start_s=0.41, size_mb=size_mb),
        clauses=tuple(judge(CONTRACT, measured)), divergence=divergence, attempts=attempts,
        score_histogram=(source, moved),
    )  # fmt: skip


def detector_proof(*, model: str = "street") -> Proof:
    attempts = (
        Attempt(label="all operators, min-max", figures={"map": 0.138, "drop": 0.201}, holds=False, seconds=21),
        Attempt(
            label="head in float", why="the first stage that diverges is in the head", holds=False, seconds=24,
            figures={"map": 0.243, "drop": 0.096}, options={"exclude_tail": True},
        ),
        Attempt(
            label="only pointwise convolutions", why="depthwise convolutions diverge first", holds=True, seconds=30,
            figures={"map": 0.338, "drop": 0.001}, options={"only_nodes": 61},
        ),
    )  # fmt: skip
    divergence = Divergence(
        tensor="stem_out", node="/backbone/stem/conv", op="Conv", sqnr_db=8.1, inputs_sqnr_db=38.2,
        worst=(("stem_out", "Conv", 8.1), ("dark2_out", "Conv", 9.9), ("dark3_add", "Add", 12.4)),
    )  # fmt: skip
    return Proof(
        model=model, source_digest="cd" * 32, source_format="onnx", samples=128, metric="map", source_value=0.339,
        source_figures={"map50": 0.501}, winner="openvino-int8", holds=True,
        verdict="openvino-int8 holds every promise: 2.8 times smaller, 0.001 of map lost, as fast as the source.",
        candidates=(
            candidate("onnx-fp32", drop=0.0, shift=0.0, p50_ms=17.0, size_mb=3.66, status="refused"),
            candidate("onnx-fp16", drop=0.0, shift=0.0001, p50_ms=19.4, size_mb=1.86),
            candidate("onnx-int8", status="refused", drop=0.201, shift=0.13, p50_ms=28.3, divergence=divergence),
            candidate("openvino-fp32", drop=0.0, shift=0.0, p50_ms=19.0, size_mb=3.71, status="refused"),
            candidate("openvino-int8", status="repaired", attempts=attempts, divergence=divergence),
            CandidateProof(
                name="tensorrt-fp16", format="tensorrt", precision="fp16", status="unavailable",
                reason="needs tensorrt: pip install tensorrt",
            ),
        ),
        machine={"cpu": "Xeon, 2 cores, avx512_vnni", "os": "Linux 6.1", "load": "0.4"},
        versions={"onnxruntime": "1.31.1", "openvino": "2026.4.1", "numpy": "2.4.6"},
        notes=("128 of 128 evaluation pictures were used",),
    )  # fmt: skip


def unmeasured_proof() -> Proof:
    """Be a proof without labels, in which nothing came out as a number."""
    bare = CandidateProof(name="onnx-fp32", format="onnx", precision="fp32", status="accepted")
    lost = candidate("onnx-fp16", drop=NAN, shift=NAN, p50_ms=NAN, size_mb=NAN, status="refused")
    return Proof(
        model="street", source_digest="cd" * 32, source_format="onnx", samples=0, metric=None, source_value=None,
        winner="onnx-fp32", holds=True, verdict="onnx-fp32 is the source.", candidates=(bare, lost), machine={},
        versions={},
    )  # fmt: skip


def bundle(folder: Path, proof: Proof, *, golden: tuple[Golden, ...] = ()) -> Bundle:
    entry = FileEntry(sha256="ef" * 32, size=1_310_000)
    signature = Signature(
        inputs=(TensorSpec(name="images", dtype="float32", shape=(1, 3, 416, 416)),),
        outputs=(TensorSpec(name="output", dtype="float32", shape=("batch", 3549, 85)),),
    )
    files = {"model/model.xml": entry, "deployment.json": FileEntry(sha256="01" * 32, size=912)}
    return Bundle(
        path=folder,
        manifest=Manifest(
            spec_version=1, name="street", digest="sha256:" + "12" * 32, format="openvino", precision="int8",
            model="model/model.xml", files=files, measured=("proof.json",),
        ),
        deployment=Deployment.model_construct(
            model=ModelSection(name="street", source="yolox_nano.onnx"), task=TaskSpec(kind="detect"),
            data=DataSection(), contract=CONTRACT,
        ),
        artifact=Artifact(
            path=folder / "model" / "model.xml", format="openvino", signature=signature, digest="ab" * 32,
            precision="int8", made_by=("openvino", "openvino-int8"),
        ),
        proof=proof, golden=golden, tolerance={"unmatched": 0.02, "max_score_diff": 0.01}, baseline={},
        versions=proof.versions,
    )  # fmt: skip
