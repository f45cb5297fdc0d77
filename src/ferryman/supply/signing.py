"""Sign what is shipped, and say whether it is accepted: bundles here, images where their registry is asked."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferryman.bundle.attach import attach
from ferryman.bundle.read import load_bundle
from ferryman.core.bundle import BOM, PROVENANCE, SIGNATURE
from ferryman.core.errors import ConfigError, FerrymanError, Untrusted
from ferryman.supply.bom import Bom, bundle_bom
from ferryman.supply.dsse import parse_json
from ferryman.supply.keys import PrivateKey
from ferryman.supply.model_signature import model_signature, read_signature
from ferryman.supply.policy import Policy
from ferryman.supply.provenance import LOCAL, bundle_provenance


@dataclass(frozen=True, slots=True)
class Signed:
    """Say what was signed, with which key, what was written (files, or tags of a registry), and what it can't tell."""

    target: str
    key: str
    written: tuple[str, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Accepted:
    """Say what was accepted; `key` is the fingerprint of who signed it, "" where no signature was asked for."""

    target: str
    digest: str
    key: str
    signer: str
    is_signed: bool


@dataclass(frozen=True, slots=True)
class Wish:
    """Say what is done beside signing: without `bare`, a bill of materials and provenance are signed with the rest.

    `builder` is a URI that names what built it.
    """

    bare: bool = False
    builder: str = LOCAL
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Say how a registry is reached; `ca` is a PEM file of authorities to trust besides the system's."""

    insecure: bool = False
    ca: Path | None = None


PLAINLY = Wish()
HERE = Place()


def sign_bundle(path: Path, key: PrivateKey, wish: Wish = PLAINLY) -> Signed:
    """Write a bundle's bill of materials, provenance and a signature over all of it, into a folder or .ferry file.

    All is written or nothing; what was there of these is replaced.
    """
    bundle = load_bundle(path)
    beside: dict[str, bytes] = {}
    warnings: tuple[str, ...] = ()
    if not wish.bare:
        bom = bundle_bom(bundle)
        warnings = bom.warnings
        beside = {BOM: encode(bom.document), PROVENANCE: encode(bundle_provenance(bundle, builder=wish.builder))}
    files = {**beside, SIGNATURE: model_signature(bundle, key, beside)}
    if not wish.dry_run:
        attach(bundle, path, files)
    return Signed(str(path), key.public.fingerprint, tuple(files), warnings)


def accept_bundle(path: Path, policy: Policy) -> Accepted:
    """Check a bundle against a policy; raises Untrusted that names the file and the key, BundleError for damage."""
    bundle = load_bundle(path)
    signer = policy.check(bundle)
    return Accepted(
        target=str(path),
        digest=f"sha256:{bundle.manifest.digest}",
        key=signer.fingerprint if signer else "",
        signer=signer.origin if signer else "",
        is_signed=read_signature(bundle) is not None,
    )


def describe_bundle(path: Path, *, provenance: bool = False, builder: str = LOCAL) -> Bom:
    """Give a bundle's bill of materials, or its provenance in the same wrapping."""
    bundle = load_bundle(path)
    if provenance:
        return Bom(bundle_provenance(bundle, builder=builder), ())
    return bundle_bom(bundle)


def encode(document: Mapping[str, Any]) -> bytes:  # JSON
    """Give a document's bytes, for people to read: the same document, the same bytes."""
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def refuse_foreign(file: Path) -> None:
    """Raise ConfigError for a file that is there and is no document of this kind: it would be written over."""
    if not file.exists():
        return
    try:
        held = parse_json(file.read_bytes(), origin=str(file))
    except (OSError, FerrymanError):
        held = None
    if not isinstance(held, dict) or not {"bomFormat", "predicateType"} & held.keys():
        raise ConfigError(
            f"{file} is there, and is neither a bill of materials nor a provenance", hint="name another file"
        )


def not_attested(image: str, part: str) -> Untrusted:
    """Say that an image lacks what a policy asks for."""
    return Untrusted(
        f"{image} has no {part} that a trusted key signed, which the policy asks for",
        hint="ferryman sign attaches it: it must have the image's bundle inside",
    )
