"""Sign statements and read signed ones: DSSE v1.0 envelopes around in-toto statements."""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ferryman.core.errors import Untrusted
from ferryman.supply.keys import Hash, PrivateKey, PublicKey, short

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
STATEMENTS = (STATEMENT, "https://in-toto.io/Statement/v0.1")
_SIGNATURES_AT_MOST = 16
AGAIN = "get it again from where it was signed, or sign it again"


@dataclass(frozen=True, slots=True)
class Envelope:
    """Hold what was signed and the signatures; nobody has checked them yet."""

    payload: bytes
    signatures: tuple[bytes, ...]
    origin: str

    def signer(self, keys: Sequence[PublicKey], hashed: Hash, *, hint: str = "") -> PublicKey:
        """Give the key that signed; raises Untrusted where none of these did. `hint` is the signer's own word."""
        for key in keys:
            if any(key.verifies(signature, pae(self.payload), hashed) for signature in self.signatures):
                return key
        raise not_signed_by(keys, self.origin, hint=hint)


def not_signed_by(keys: Sequence[PublicKey], origin: str, *, hint: str = "") -> Untrusted:
    """Say that none of the keys made a signature."""
    known = ", ".join(map(str, keys))
    if hint and hint in {key.fingerprint for key in keys}:
        return Untrusted(f"{origin}: the signature is not {known}'s, though it says so: it was altered", hint=AGAIN)
    claims = f"; it names the key {short(hint)}" if hint else ""
    return Untrusted(
        f"{origin}: not signed by {known or 'a key that is trusted'}{claims}",
        hint="trust the key of who signed it, or have it signed by one that is trusted",
    )


def pae(payload: bytes) -> bytes:
    """Give the bytes that are signed: DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %b %d %b" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def seal(statement: Mapping[str, Any], key: PrivateKey, hashed: Hash) -> dict[str, Any]:  # JSON
    """Sign a statement; gives the envelope as JSON."""
    payload = json.dumps(statement, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    signature = key.sign(pae(payload), hashed)
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": "", "sig": base64.b64encode(signature).decode()}],
    }


def read_envelope(raw: Any, *, origin: str) -> Envelope:  # JSON
    """Read an envelope and believe none of it; raises Untrusted that names `origin`."""
    try:
        if raw["payloadType"] != PAYLOAD_TYPE:
            raise Untrusted(f"{origin} holds {raw['payloadType']!r:.60}, not an in-toto statement", hint=AGAIN)
        listed = raw["signatures"]
        if not isinstance(listed, list) or not 0 < len(listed) <= _SIGNATURES_AT_MOST:
            raise Untrusted(f"{origin} has no signature, or too many", hint=AGAIN)
        signatures = tuple(decode_base64(entry["sig"]) for entry in listed)
        return Envelope(decode_base64(raw["payload"]), signatures, origin)
    except (KeyError, TypeError, ValueError) as error:
        raise Untrusted(f"{origin} is no signed statement: {error!r:.100}", hint=AGAIN) from None


def read_statement(payload: bytes, *, origin: str) -> dict[str, Any]:  # JSON
    """Read an in-toto statement; raises Untrusted."""
    statement = parse_json(payload, origin=origin)
    if not isinstance(statement, dict) or statement.get("_type") not in STATEMENTS:
        raise Untrusted(f"{origin} is no in-toto statement", hint=AGAIN)
    return statement


def parse_json(payload: bytes, *, origin: str) -> Any:  # JSON
    """Read JSON of whoever wrote it; raises Untrusted."""
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise Untrusted(f"{origin} is not whole, or no JSON: {error}", hint=AGAIN) from None


def decode_base64(text: Any) -> bytes:  # JSON
    """Read base64, strictly; raises ValueError."""
    if not isinstance(text, str):
        raise ValueError("no base64 text")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"no base64: {error}") from None
