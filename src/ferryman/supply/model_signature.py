"""Sign a bundle's folder and check it: an OpenSSF model signature, `model.sig`, as the tool model_signing has it.

A Sigstore bundle (v0.3) holds a DSSE envelope; its in-toto statement lists every file with its sha256. The format:
https://github.com/ossf/model-signing-spec.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from ferryman.bundle.layout import ATTACHED_LIMIT_BYTES, MANIFEST
from ferryman.core.artifact import digest_file
from ferryman.core.bundle import ATTACHED, SIGNATURE, Bundle
from ferryman.core.errors import Untrusted
from ferryman.supply.dsse import AGAIN, STATEMENT, Envelope, parse_json, read_envelope, read_statement, seal
from ferryman.supply.keys import PrivateKey, PublicKey

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PREDICATE = "https://model_signing/signature/v1.0"
NOTHING: Mapping[str, bytes] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ModelSignature:
    """Hold a signature as it was read; `hint` is the fingerprint of the key that it claims to be from."""

    envelope: Envelope
    hint: str
    files: Mapping[str, str]


def model_signature(bundle: Bundle, key: PrivateKey, beside: Mapping[str, bytes] = NOTHING) -> bytes:
    """Give the bytes of `model.sig`: over every file of a bundle, and those that will be written `beside` them."""
    digests = {**_digests(bundle), **{name: hashlib.sha256(payload).hexdigest() for name, payload in beside.items()}}
    names = sorted(digests, key=PurePosixPath)
    root = hashlib.sha256(b"".join(bytes.fromhex(digests[name]) for name in names)).hexdigest()
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": bundle.manifest.name, "digest": {"sha256": root}}],
        "predicateType": PREDICATE,
        "predicate": {
            "serialization": {
                "method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": [SIGNATURE],
            },
            "resources": [{"name": name, "algorithm": "sha256", "digest": digests[name]} for name in names],
        },
    }  # fmt: skip
    document = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": key.public.fingerprint}, "tlogEntries": []},
        "dsseEnvelope": seal(statement, key, "curve"),
    }
    return json.dumps(document, sort_keys=True).encode() + b"\n"


def read_signature(bundle: Bundle) -> ModelSignature | None:
    """Read a bundle's signature and see that it covers each of its files as they are; None where there is none.

    Says nothing of who signed: `check_signature` does. Raises Untrusted that names the file.
    """
    file = bundle.path / SIGNATURE
    try:
        with file.open("rb") as stream:
            payload = stream.read(ATTACHED_LIMIT_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Untrusted(f"{file} can't be read: {error.strerror}", hint=AGAIN) from None
    if len(payload) > ATTACHED_LIMIT_BYTES:
        raise Untrusted(f"{file} has more than {ATTACHED_LIMIT_BYTES} bytes: it is no signature", hint=AGAIN)
    signature = _parse(payload, file)
    _compare(bundle, signature.files)
    return signature


def check_signature(bundle: Bundle, keys: Sequence[PublicKey]) -> PublicKey:
    """Give the key of these that signed the bundle as it is; raises Untrusted that names the file and the keys."""
    signature = read_signature(bundle)
    if signature is None:
        raise Untrusted(
            f"{bundle.path} is not signed: it has no {SIGNATURE}", hint=f"ferryman sign {bundle.path} --key KEY.pem"
        )
    return signature.envelope.signer(keys, "curve", hint=signature.hint)


def _digests(bundle: Bundle) -> dict[str, str]:
    """Give the sha256 of every file but the signature; those that the manifest lists were checked when it was read."""
    listed = {name: entry.sha256 for name, entry in bundle.manifest.files.items()}
    beside = [name for name in ATTACHED if name != SIGNATURE and (bundle.path / name).is_file()]
    return listed | {name: digest_file(bundle.path / name) for name in (MANIFEST, *beside)}


def _compare(bundle: Bundle, signed: Mapping[str, str]) -> None:
    found = _digests(bundle)
    # The manifest last: it changes with each of the others, and they are what somebody looks for.
    for name in sorted(found.keys() | signed.keys(), key=lambda name: (name == MANIFEST, name)):
        file = bundle.path / name
        if name not in signed:
            raise Untrusted(f"{file} is not covered by {SIGNATURE}: it was added after the signing", hint=AGAIN)
        if name not in found:
            raise Untrusted(f"{file} is missing: {SIGNATURE} covers it", hint=AGAIN)
        if found[name] != signed[name]:
            raise Untrusted(f"{file} was changed since it was signed, or {SIGNATURE} is another bundle's", hint=AGAIN)


def _parse(payload: bytes, file: Path) -> ModelSignature:
    document = parse_json(payload, origin=str(file))
    try:
        if document["mediaType"] != MEDIA_TYPE:
            raise Untrusted(f"{file} is a {document['mediaType']!r:.60}, not a Sigstore bundle v0.3", hint=AGAIN)
        material = document["verificationMaterial"]
        if "publicKey" not in material:
            raise Untrusted(
                f"{file} is signed with a certificate, not with a key",
                hint="verify it with model_signing verify sigstore, or have it signed with a key",
            )
        hint = str(material["publicKey"].get("hint") or "")
        envelope = read_envelope(document["dsseEnvelope"], origin=str(file))
        return ModelSignature(envelope, hint, _files(read_statement(envelope.payload, origin=str(file)), file))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Untrusted(f"{file} is no model signature: {error!r:.100}", hint=AGAIN) from None


def _files(statement: Mapping[str, Any], file: Path) -> dict[str, str]:  # JSON
    """Give the files that a statement lists; raises Untrusted, and what comes of JSON of another shape."""
    predicate = statement["predicate"]
    how = predicate["serialization"]
    if statement["predicateType"] != PREDICATE or (how["method"], how["hash_type"]) != ("files", "sha256"):
        raise Untrusted(
            f"{file} is signed by {how['method']!r:.20} and {how['hash_type']!r:.20}; files and sha256 are read here",
            hint="sign it with ferryman sign, or with model_signing's defaults",
        )
    listed = [(str(entry["name"]), _sha256(entry)) for entry in predicate["resources"]]
    files = dict(listed)
    (subject,) = statement["subject"]
    root = hashlib.sha256(b"".join(bytes.fromhex(digest) for _, digest in listed)).hexdigest()
    if len(files) != len(listed) or subject["digest"]["sha256"] != root:
        raise Untrusted(f"{file} does not agree with itself: its digest is not that of its files", hint=AGAIN)
    return files


def _sha256(entry: Mapping[str, Any]) -> str:  # JSON
    digest = str(entry["digest"])
    if entry["algorithm"] != "sha256" or len(bytes.fromhex(digest)) != hashlib.sha256().digest_size:
        raise ValueError(f"{entry!r:.60}")
    return digest
