"""Describe a bundle's model for a bill of materials: its card, where it comes from, the data that judged it."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from ferryman.core.bundle import Bundle
from ferryman.core.proof import Accuracy, CandidateProof
from ferryman.core.signature import TensorSpec
from ferryman.supply.licences import licence_json

_SHA256 = re.compile(r"([0-9a-f]{64})(?:-|$)")
Document = dict[str, Any]  # JSON


def model_component(bundle: Bundle) -> Document:
    """Give the bundle itself as a component: a model with its card; its hash is the bundle's digest."""
    manifest, deployment, proof = bundle.manifest, bundle.deployment, bundle.proof
    source = {
        "type": "machine-learning-model",
        "name": deployment.model.source.rpartition("/")[2],
        "hashes": _hashes(proof.source_digest),
        "licenses": licence_json(deployment.model.license),
        "properties": _properties({"ferryman:format": proof.source_format}),
    }
    return {
        "type": "machine-learning-model",
        "bom-ref": f"bundle:{manifest.digest}",
        "name": manifest.name,
        "version": manifest.digest[:12],
        "hashes": _hashes(manifest.digest),
        "licenses": licence_json(deployment.model.license),
        "pedigree": {"ancestors": [source], "notes": " -> ".join(bundle.artifact.made_by)},
        "modelCard": _card(bundle),
        "properties": _properties(
            {
                "ferryman:format": manifest.format,
                "ferryman:precision": manifest.precision,
                "ferryman:model-sha256": bundle.artifact.digest,
                "ferryman:contract": proof.verdict,
            }
        ),
    }


def export_components(bundle: Bundle) -> list[Document]:
    """Give the same model's files in other formats."""
    return [
        {
            "type": "machine-learning-model",
            "bom-ref": f"export:{name}",
            "name": f"{bundle.manifest.name} {name}",
            "hashes": _hashes(artifact.digest),
            "licenses": licence_json(bundle.deployment.model.license),
            "properties": _properties({"ferryman:format": artifact.format, "ferryman:precision": artifact.precision}),
        }
        for name, artifact in sorted(bundle.exports.items())
    ]


def data_components(bundle: Bundle) -> list[Document]:
    """Give the sets of data that the build used: digests and licence, no content."""
    section = bundle.deployment.data
    places = {"evaluation": section.evaluation.items if section.evaluation else "", "calibration": section.calibration}
    return [
        {
            "type": "data",
            "bom-ref": _data_ref(name),
            "name": name,
            "hashes": _hashes(digest),
            "licenses": licence_json(section.license),
            "data": [{"type": "dataset", "name": places.get(name) or name}],
            "properties": _properties({"ferryman:digest": digest}),
        }
        for name, digest in sorted(bundle.proof.data.items())
    ]


def _card(bundle: Bundle) -> Document:
    proof, signature = bundle.proof, bundle.artifact.signature
    winner = next(candidate for candidate in proof.candidates if candidate.name == proof.winner)
    tradeoffs = [proof.verdict, *(_told(winner.accuracy) if winner.accuracy else ())]
    considerations: Document = {"performanceTradeoffs": tradeoffs}
    if limits := [*proof.warnings, *proof.notes]:
        considerations["technicalLimitations"] = limits
    return {
        "modelParameters": {
            "task": bundle.deployment.task.kind,
            "modelArchitecture": f"{bundle.manifest.format} {bundle.manifest.precision}",
            "datasets": [{"ref": _data_ref(name)} for name in sorted(proof.data)],
            "inputs": _tensors(signature.inputs),
            "outputs": _tensors(signature.outputs),
        },
        "quantitativeAnalysis": {"performanceMetrics": list(_metrics(winner))},
        "considerations": considerations,
        "properties": _properties(
            {
                f"ferryman:promise:{clause.name}": f"{clause.promised:g} {clause.unit}".strip()
                + ("" if clause.measured is None else f", measured {clause.measured:.6g}")
                + {True: ", holds", False: ", broken", None: ", not measured"}[clause.holds]
                for clause in winner.clauses
            }
        ),
    }


def _metrics(candidate: CandidateProof) -> Iterable[Document]:
    if found := candidate.accuracy:
        yield {"type": found.metric, "value": f"{found.value:.6g}", "slice": f"{found.samples} samples"}
        yield {
            "type": f"drop of {found.metric}",
            "value": f"{found.drop:.6g}",
            "confidenceInterval": {"lowerBound": f"{found.drop_low:.6g}", "upperBound": f"{found.drop_high:.6g}"},
        }
    for name, value in sorted(candidate.agreement.items()):
        yield {"type": name, "value": f"{value:.6g}"}
    figures: list[tuple[str, float | None]] = []
    if candidate.latency:
        figures += [("latency p50 ms", candidate.latency.p50_ms), ("latency p99 ms", candidate.latency.p99_ms)]
    if candidate.footprint:
        held = candidate.footprint
        figures += [("size MB", held.size_mb), ("memory MB", held.rss_mb), ("cold start s", held.cold_start_s)]
    yield from ({"type": name, "value": f"{value:.6g}"} for name, value in figures if value is not None)


def _told(accuracy: Accuracy) -> Sequence[str]:
    drop = f"drop {accuracy.drop_low:.4g} to {accuracy.drop_high:.4g}"
    return (f"{accuracy.metric} {accuracy.value:.4g}, the source's {accuracy.source_value:.4g} ({drop})",)


def _tensors(specs: Sequence[TensorSpec]) -> list[Document]:
    return [{"format": f"{spec.name}: {spec.dtype}[{','.join(map(str, spec.shape))}]"} for spec in specs]


def sha256_of(text: str) -> str:
    """Give the sha256 that a digest begins with, "" where it does not: some go on with what was taken of the file."""
    match = _SHA256.match(text)
    return match.group(1) if match else ""


def _hashes(digest: str) -> list[Document]:
    found = sha256_of(digest)
    return [{"alg": "SHA-256", "content": found}] if found else []


def _data_ref(name: str) -> str:
    return f"data:{name}"


def _properties(pairs: dict[str, str]) -> list[Document]:
    return [{"name": name, "value": value} for name, value in pairs.items() if value]
