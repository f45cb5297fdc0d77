"""Write what is in a bundle or an image as a CycloneDX 1.6 bill of materials: packages, model, data, licences.

The format: https://cyclonedx.org/docs/1.6/json (ECMA-424). Its Python library has no model card yet, so the document is
made here; it is small, and the official schema checks it in the tests.
"""

import datetime
import os
import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import requires
from typing import Any

from ferryman import __version__
from ferryman.core.bundle import Bundle
from ferryman.core.errors import ConfigError
from ferryman.core.plugins import plugins
from ferryman.supply.licences import UNKNOWN, is_spdx, licence_json, licence_of_installed
from ferryman.supply.model_card import data_components, export_components, model_component

_SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
_OURS = "ferryman"
Document = dict[str, Any]  # JSON


@dataclass(frozen=True, slots=True)
class Package:
    """Be one package; `sha256` is that of the file that it came as (a wheel), in hex, "" where none was seen.

    `purl` names it for everyone (https://github.com/package-url/purl-spec): a Python package where it isn't said.
    """

    name: str
    version: str
    license: str = UNKNOWN
    sha256: str = ""
    purl: str = ""
    is_served: bool = True

    @property
    def ref(self) -> str:
        """Give its purl."""
        name = re.sub(r"[-_.]+", "-", self.name).lower()
        return self.purl or f"pkg:pypi/{name}@{self.version.replace('+', '%2B')}"


@dataclass(frozen=True, slots=True)
class Bom:
    """Hold a bill of materials, and what it can't tell."""

    document: Document
    warnings: tuple[str, ...]


def bundle_bom(bundle: Bundle) -> Bom:
    """List what a bundle is made of, and the packages that it was verified with; the same bundle, the same bytes."""
    about = model_component(bundle)
    packages = verified_packages(bundle)
    components = [*data_components(bundle), *export_components(bundle), *map(_package, packages)]
    document = _document(about, components, bundle.manifest.digest)
    return Bom(document, (*_doubts_of_model(bundle), *_doubts_of(packages)))


def image_bom(image: str, digest: str, bundle: Bundle, packages: Sequence[Package]) -> Bom:
    """List what is in an image: its packages, and the bundle's model with all that is known of it."""
    about = {
        "type": "container",
        "bom-ref": f"image:{digest}",
        "name": image,
        "version": digest,
        "hashes": [{"alg": "SHA-256", "content": digest.removeprefix("sha256:")}],
    }
    parts = [model_component(bundle), *data_components(bundle), *export_components(bundle)]
    document = _document(about, [*parts, *map(_package, packages)], digest)
    return Bom(document, (*_doubts_of_model(bundle), *_doubts_of(packages)))


def verified_packages(bundle: Bundle) -> list[Package]:
    """List the packages that a bundle was built and verified with; those that serve it, too, are marked."""
    runtime = plugins("runtimes").get(bundle.manifest.format)
    ours = [re.split(r"[^\w.-]", text)[0] for text in requires(_OURS) or () if "extra ==" not in text]
    served = {_OURS, *ours, *(getattr(runtime.cls, "needs", ()) if runtime else ())}
    return [
        Package(name, version, licence_of_installed(name, version), is_served=name in served)
        for name, version in sorted(bundle.versions.items())
    ]


def timestamp() -> str:
    """Give SOURCE_DATE_EPOCH as a date, "" where it isn't set: no clock, so that the bytes are the same each time."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return ""
    try:
        return datetime.datetime.fromtimestamp(int(text), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        raise ConfigError(f"SOURCE_DATE_EPOCH = {text!r} is no time", hint="a number of seconds since 1970") from None


def _document(about: Document, components: Sequence[Document], digest: str) -> Document:
    ours = {"type": "application", "name": _OURS, "version": __version__, **_licensed("Apache-2.0")}
    when = timestamp()
    refs = [component["bom-ref"] for component in components]
    return {
        "$schema": _SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{_OURS}:{digest}')}",
        "version": 1,
        "metadata": {**({"timestamp": when} if when else {}), "tools": {"components": [ours]}, "component": about},
        "components": list(components),
        "dependencies": [{"ref": about["bom-ref"], "dependsOn": sorted(refs)}, *({"ref": ref} for ref in sorted(refs))],
    }


def _package(package: Package) -> Document:
    hashes = {"hashes": [{"alg": "SHA-256", "content": package.sha256}]} if package.sha256 else {}
    return {
        "type": "library",
        "bom-ref": package.ref,
        "name": package.name,
        "version": package.version,
        "scope": "required" if package.is_served else "excluded",
        **hashes,
        **_licensed(package.license),
        "purl": package.ref,
    }


def _licensed(licence: str) -> Document:
    return {"licenses": licence_json(licence)}


def _doubts_of_model(bundle: Bundle) -> Iterable[str]:
    said = {"model": bundle.deployment.model.license, "data": bundle.deployment.data.license}
    what = {"model": "the weights'", "data": "the data's"}
    for section, licence in said.items():
        if section == "data" and not bundle.proof.data:
            continue
        if not licence:
            yield f"{what[section]} licence is unknown: say it in ferryman.toml, [{section}] license"
        elif not is_spdx(licence):
            yield f"{what[section]} licence {licence!r} is no SPDX expression, as Apache-2.0"


def _doubts_of(packages: Sequence[Package]) -> Iterable[str]:
    if unknown := [package.name for package in packages if package.license == UNKNOWN]:
        yield f"the licence is unknown of {', '.join(unknown)}"
