import json
from dataclasses import replace
from email.message import Message
from pathlib import Path
from typing import Any

import cyclonedx
import jsonschema_rs
import pytest
from cyclonedx.model.bom import Bom as TheirBom

from ferryman.bundle.read import load_bundle
from ferryman.core.bundle import Bundle
from ferryman.core.errors import ConfigError
from ferryman.core.proof import Accuracy, Footprint, Latency
from ferryman.supply.bom import Package, bundle_bom, image_bom
from ferryman.supply.licences import is_spdx, licence_of
from ferryman.supply.provenance import bundle_provenance
from ferryman.supply.signing import encode

SCHEMAS = Path(cyclonedx.__file__).parent / "schema" / "_res"
IMAGE = "sha256:" + "a" * 64


@pytest.fixture(scope="module")
def validator() -> jsonschema_rs.Draft7Validator:
    """Give CycloneDX's own schema, as its Python library ships it."""

    def find(address: str) -> Any:  # JSON
        return json.loads((SCHEMAS / address.rpartition("/")[2]).read_text())

    schema = find("bom-1.6.SNAPSHOT.schema.json")
    return jsonschema_rs.Draft7Validator(schema, retriever=find)


@pytest.fixture
def told(original: Path) -> Bundle:
    """Give a bundle of which everything is known: licences, data, figures."""
    bundle = load_bundle(original)
    deployment = bundle.deployment.model_copy(
        update={
            "model": bundle.deployment.model.model_copy(update={"license": "AGPL-3.0-only"}),
            "data": bundle.deployment.data.model_copy(update={"license": "CC-BY-4.0"}),
        }
    )
    candidate = bundle.proof.candidates[0].model_copy(
        update={
            "accuracy": Accuracy(
                metric="accuracy", value=0.9, source_value=0.91, drop=0.01, drop_low=0.0, drop_high=0.02, samples=50
            ),
            "latency": Latency(min_ms=1, p50_ms=2, p95_ms=3, p99_ms=4, ratio=1, noise=0.01, rounds=9),
            "footprint": Footprint(rss_mb=90, cold_start_s=0.5, size_mb=1.5),
            "agreement": {"score_shift": 0.001},
        }
    )
    data = {"evaluation": "b" * 64 + "-label-50", "calibration": "c" * 64}
    proof = bundle.proof.model_copy(
        update={"candidates": (candidate,), "data": data, "source_digest": "d" * 64, "warnings": ("a doubtful source",)}
    )
    versions = {"numpy": "2.4.6", "onnxruntime": "0.0.1", "ferryman": "0.1.0"}
    return replace(bundle, deployment=deployment, proof=proof, versions=versions)


def test_a_bundles_bill_of_materials_is_valid_by_the_official_schema(
    validator: jsonschema_rs.Draft7Validator, original: Path, told: Bundle
) -> None:
    for bundle in (load_bundle(original), told):
        document = json.loads(encode(bundle_bom(bundle).document))
        assert [str(error) for error in validator.iter_errors(document)] == []


def test_the_schema_is_one_that_refuses(validator: jsonschema_rs.Draft7Validator, told: Bundle) -> None:
    document = bundle_bom(told).document
    document["metadata"]["component"]["modelCard"]["modelParameters"]["colour"] = "blue"
    assert not validator.is_valid(document)


def test_an_images_bill_of_materials_is_valid_and_holds_the_digests_of_its_wheels(
    validator: jsonschema_rs.Draft7Validator, told: Bundle
) -> None:
    packages = [
        Package("numpy", "2.4.6", "BSD-3-Clause AND MIT", "e" * 64),
        Package("libc6", "2.36-9", "unknown", purl="pkg:deb/debian/libc6@2.36-9?arch=amd64"),
    ]
    found = image_bom("host/street", IMAGE, told, packages)
    document = json.loads(encode(found.document))
    assert [str(error) for error in validator.iter_errors(document)] == []
    assert document["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    numpy = next(one for one in document["components"] if one["name"] == "numpy")
    assert numpy["hashes"] == [{"alg": "SHA-256", "content": "e" * 64}]
    assert numpy["purl"] == "pkg:pypi/numpy@2.4.6"
    assert found.warnings == ("the licence is unknown of libc6",)


def test_the_library_of_cyclonedx_reads_it(told: Bundle) -> None:
    theirs = TheirBom.from_json(json.loads(encode(bundle_bom(told).document)))  # type: ignore[attr-defined]  # made by a decorator
    assert theirs.metadata.component.name == "affine"
    numpy = next(one for one in theirs.components if one.name == "numpy")
    assert (str(numpy.purl), numpy.version) == ("pkg:pypi/numpy@2.4.6", "2.4.6")
    assert {str(one.type.value) for one in theirs.components} == {"library", "data"}


def test_it_tells_of_the_model_what_was_proved_of_it(told: Bundle) -> None:
    about = bundle_bom(told).document["metadata"]["component"]
    card = about["modelCard"]
    assert about["licenses"] == [{"expression": "AGPL-3.0-only"}]
    assert about["pedigree"]["ancestors"][0]["hashes"] == [{"alg": "SHA-256", "content": "d" * 64}]
    assert card["modelParameters"]["inputs"] == [{"format": "values: float32[batch,3]"}]
    assert card["modelParameters"]["datasets"] == [{"ref": "data:calibration"}, {"ref": "data:evaluation"}]
    metrics = {one["type"]: one["value"] for one in card["quantitativeAnalysis"]["performanceMetrics"]}
    assert metrics["accuracy"] == "0.9"
    assert metrics["latency p99 ms"] == "4"
    assert "a doubtful source" in card["considerations"]["technicalLimitations"]


def test_data_is_named_with_its_digest_and_licence(told: Bundle) -> None:
    data = {one["name"]: one for one in bundle_bom(told).document["components"] if one["type"] == "data"}
    assert data["evaluation"]["hashes"] == [{"alg": "SHA-256", "content": "b" * 64}]
    assert data["calibration"]["licenses"] == [{"expression": "CC-BY-4.0"}]


def test_an_unknown_licence_is_written_as_unknown_and_warned_of(original: Path, told: Bundle) -> None:
    found = bundle_bom(load_bundle(original))
    assert found.document["metadata"]["component"]["licenses"] == [{"license": {"name": "unknown"}}]
    assert any("[model] license" in warning for warning in found.warnings)
    assert bundle_bom(told).warnings == ("the licence is unknown of onnxruntime",), "another version than is installed"
    odd = told.deployment.model_copy(update={"model": told.deployment.model.model_copy(update={"license": "free"})})
    assert any("no SPDX expression" in warning for warning in bundle_bom(replace(told, deployment=odd)).warnings)


def test_the_same_bundle_gives_the_same_bytes_and_no_clock(told: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    first = bundle_bom(told).document
    assert encode(first) == encode(bundle_bom(told).document)
    assert "timestamp" not in first["metadata"]
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert bundle_bom(told).document["metadata"]["timestamp"] == "1970-01-02T00:00:00Z"
    assert bundle_provenance(told)["predicate"]["runDetails"]["metadata"] == {"finishedOn": "1970-01-02T00:00:00Z"}
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(ConfigError, match="SOURCE_DATE_EPOCH = 'yesterday'"):
        bundle_bom(told)


def test_provenance_names_what_the_bundle_was_made_of(told: Bundle) -> None:
    statement = bundle_provenance(told, builder="https://ci.example/1")
    assert statement["subject"] == [{"name": "affine", "digest": {"sha256": told.manifest.digest}}]
    made = statement["predicate"]["buildDefinition"]
    assert made["externalParameters"]["deployment"]["model"]["name"] == "affine"
    resolved = {one["name"]: one for one in made["resolvedDependencies"]}
    assert resolved["source"] == {"name": "source", "digest": {"sha256": "d" * 64}}
    assert resolved["evaluation"]["digest"] == {"sha256": "b" * 64}
    assert resolved["numpy"]["uri"] == "pkg:pypi/numpy@2.4.6"
    assert statement["predicate"]["runDetails"]["builder"]["id"] == "https://ci.example/1"


@pytest.mark.parametrize(
    ("fields", "licence"),
    [
        ([("License-Expression", "MIT-0 OR ISC"), ("License", "BSD")], "MIT-0 OR ISC"),
        ([("License", "Apache License, Version 2.0")], "Apache-2.0"),
        (
            [("License", "MIT License\n\nCopyright (c) ..."), ("Classifier", "License :: OSI Approved :: MIT License")],
            "MIT",
        ),
        ([("Classifier", "License :: OSI Approved :: BSD License")], "BSD"),
        ([("License", "Dual, ask us")], "Dual, ask us"),
        ([("License", "x" * 2000)], "unknown"),
        ([], "unknown"),
    ],
)
def test_a_packages_licence_is_read_from_its_metadata(fields: list[tuple[str, str]], licence: str) -> None:
    metadata = Message()
    for name, value in fields:
        metadata[name] = value.replace("\n", " \n ")
    assert licence_of(metadata) == licence


@pytest.mark.parametrize(
    "text", ["MIT", "Apache-2.0", "Apache-2.0 OR BSD-3-Clause", "(MIT AND GPL-2.0-only) WITH x-exception", "MIT-0",
             "LicenseRef-Ours", "GPL-2.0-or-later WITH GCC-exception-3.1"]
)  # fmt: skip
def test_spdx_expressions_are_known(text: str) -> None:
    assert is_spdx(text)


@pytest.mark.parametrize(
    "text", ["", "BSD", "Apache", "Apache 2.0", "MIT or ISC", "MIT ISC", "AND", "unknown", "a b c"]
)
def test_what_is_no_spdx_expression_is_known(text: str) -> None:
    assert not is_spdx(text)
