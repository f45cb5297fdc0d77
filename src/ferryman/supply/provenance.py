"""Say how a bundle or an image came to be: SLSA provenance v1, as an in-toto statement.

The format: https://slsa.dev/spec/v1.0/provenance. What the build types mean is told in docs/supply-chain.md.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from ferryman import __version__
from ferryman.bundle.layout import DEPLOYMENT, PROOF
from ferryman.core.bundle import Bundle
from ferryman.supply.bom import Package, timestamp, verified_packages
from ferryman.supply.dsse import STATEMENT
from ferryman.supply.image_signature import SLSA
from ferryman.supply.model_card import sha256_of

BUILD_TYPE = "urn:ferryman:build:v1"
PACKAGE_TYPE = "urn:ferryman:package:v1"
LOCAL = "urn:ferryman:builder:local"
Document = dict[str, Any]  # JSON


def bundle_provenance(bundle: Bundle, *, builder: str = LOCAL) -> Document:
    """Give the statement about a bundle: from which model, data and packages, by which deployment; no clock."""
    proof = bundle.proof
    deployment = json.loads((bundle.path / DEPLOYMENT).read_bytes())
    inputs = {"source": proof.source_digest, **proof.data}
    resolved = [_dependency(name, digest) for name, digest in inputs.items()]
    made: Document = {
        "buildType": BUILD_TYPE,
        "externalParameters": {"deployment": deployment},
        "internalParameters": {"steps": list(bundle.artifact.made_by), "machine": proof.machine},
        "resolvedDependencies": [*resolved, *_packages(verified_packages(bundle))],
    }
    byproducts = [{"name": PROOF, "digest": {"sha256": bundle.manifest.files[PROOF].sha256}}]
    subject = {"name": bundle.manifest.name, "digest": {"sha256": bundle.manifest.digest}}
    return _statement(subject, made, builder, byproducts)


def image_provenance(
    image: str, digest: str, bundle: Bundle, packages: Sequence[Package], *, builder: str = LOCAL
) -> Document:
    """Give the statement about an image: from which bundle and packages."""
    made: Document = {
        "buildType": PACKAGE_TYPE,
        "externalParameters": {"bundle": bundle.manifest.name},
        "resolvedDependencies": [_dependency("bundle", bundle.manifest.digest), *_packages(packages)],
    }
    subject = {"name": image, "digest": {"sha256": digest.removeprefix("sha256:")}}
    return _statement(subject, made, builder, [])


def _statement(subject: Document, made: Document, builder: str, byproducts: Sequence[Document]) -> Document:
    details: Document = {"builder": {"id": builder, "version": {"ferryman": __version__}}}
    if when := timestamp():
        details["metadata"] = {"finishedOn": when}
    if byproducts:
        details["byproducts"] = list(byproducts)
    return {
        "_type": STATEMENT,
        "subject": [subject],
        "predicateType": SLSA,
        "predicate": {"buildDefinition": made, "runDetails": details},
    }


def _dependency(name: str, digest: str) -> Document:
    found = sha256_of(digest)
    return {"name": name, "digest": {"sha256": found}} if found else {"name": name, "annotations": {"digest": digest}}


def _packages(packages: Sequence[Package]) -> Iterable[Document]:
    for package in packages:
        digest = {"digest": {"sha256": package.sha256}} if package.sha256 else {}
        yield {"name": package.name, "uri": package.ref, **digest}
