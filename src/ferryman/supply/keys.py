"""Keys that sign and that are trusted: elliptic curves in PEM files, as openssl writes and reads them."""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ferryman.core.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

_LIMIT_BYTES = 64 * 1024  # no key is as long
_CURVES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}
PASSPHRASE = "FERRYMAN_KEY_PASSPHRASE"  # noqa: S105 - the variable's name
Hash = Literal["curve", "sha256"]
"""What is signed: a digest as long as the curve asks for (Sigstore bundles), or sha256 always (cosign)."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Be a key that signatures are checked with; `fingerprint` is the sha256 of its PEM file, in hex."""

    fingerprint: str
    origin: str
    _key: "EllipticCurvePublicKey" = field(repr=False, compare=False)

    def verifies(self, signature: bytes, payload: bytes, hashed: Hash = "curve") -> bool:
        """Tell whether this key's owner signed these bytes."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(signature, payload, _algorithm(self._key, hashed))
        except (InvalidSignature, ValueError):
            return False
        return True

    def __str__(self) -> str:
        return f"{self.origin} ({short(self.fingerprint)})"


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """Be a key that signs."""

    public: PublicKey
    _key: "EllipticCurvePrivateKey" = field(repr=False, compare=False)

    def sign(self, payload: bytes, hashed: Hash = "curve") -> bytes:
        """Sign bytes: ECDSA, in DER; another value each time."""
        return self._key.sign(payload, _algorithm(self._key, hashed))


def short(fingerprint: str) -> str:
    """Give as much of a fingerprint as people compare."""
    return f"{fingerprint[:16]}…" if fingerprint else "unknown"


def make_key(name: Path, *, passphrase: bytes | None = None) -> tuple[Path, Path]:
    """Write NAME.pem (P-256, PKCS#8, for its owner's eyes only) and NAME.pub; raises ConfigError where one is there."""
    _require()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    stem = name.name.removesuffix(".pem").removesuffix(".pub")
    if not stem:
        raise ConfigError("a key needs a name", hint="NAME makes NAME.pem and NAME.pub")
    private, public = name.with_name(f"{stem}.pem"), name.with_name(f"{stem}.pub")
    if public.exists():
        raise ConfigError(f"{public} is there already", hint="name another key: a lost one can't be made again")
    key = ec.generate_private_key(ec.SECP256R1())
    how: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        how = serialization.BestAvailableEncryption(passphrase)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)
    try:
        private.parent.mkdir(parents=True, exist_ok=True)
        _write_new(private, pem, mode=0o600)
        _write_new(public, _pem_of(key.public_key()), mode=0o644)
    except FileExistsError as error:
        raise ConfigError(f"{error.filename} is there already", hint="name another key") from None
    except OSError as error:
        raise ConfigError(f"{error.filename or name} can't be written: {error.strerror}", hint="name a place") from None
    return private, public


def is_encrypted(file: Path) -> bool:
    """Tell whether a private key needs a passphrase."""
    return b"ENCRYPTED" in _read(file, "private key")


def load_private(file: Path, *, passphrase: bytes | None = None) -> PrivateKey:
    """Read a private key; a passphrase that is not given is taken from FERRYMAN_KEY_PASSPHRASE; raises ConfigError."""
    payload = _read(file, "private key")
    if b"BEGIN PUBLIC KEY" in payload:
        raise ConfigError(f"{file} is a public key", hint="what signs is its private key: NAME.pem")
    if b"SIGSTORE PRIVATE KEY" in payload or b"COSIGN PRIVATE KEY" in payload:
        raise ConfigError(
            f"{file} is a key that only cosign can open (NaCl secretbox)",
            hint="sign images with cosign itself, or make a key here: ferryman sign --new-key NAME; "
            "each verifies what the other signed",
        )
    _require()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    given = passphrase or os.environ.get(PASSPHRASE, "").encode() or None
    try:
        key: Any = load_pem_private_key(payload, given if b"ENCRYPTED" in payload else None)  # of any algorithm
    except TypeError:
        raise ConfigError(f"{file} is encrypted", hint=f"set {PASSPHRASE}") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        what = "the passphrase is wrong, or it is damaged" if b"ENCRYPTED" in payload else error
        raise ConfigError(f"{file} can't be read: {what}", hint="a PEM file with an elliptic curve's key") from None
    if not hasattr(key, "curve"):
        raise _other_kind(file)
    return PrivateKey(_public(key.public_key(), file), key)


def load_public(file: Path) -> PublicKey:
    """Read a public key, openssl's or cosign's; raises ConfigError."""
    payload = _read(file, "public key")
    _require()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if b"PRIVATE KEY" in payload:
        raise ConfigError(f"{file} is a private key", hint="what is trusted is its public key: NAME.pub")
    try:
        key: Any = load_pem_public_key(payload)  # of any algorithm
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{file} is no public key: {error}", hint="a PEM file, BEGIN PUBLIC KEY") from None
    return _public(key, file)


def _public(key: Any, file: Path) -> PublicKey:  # of any algorithm
    curve = getattr(getattr(key, "curve", None), "name", "")
    if curve not in _CURVES:
        raise _other_kind(file)
    return PublicKey(hashlib.sha256(_pem_of(key)).hexdigest(), str(file), key)


def _other_kind(file: Path) -> ConfigError:
    return ConfigError(
        f"{file} is no key of the curves P-256, P-384 or P-521", hint="ferryman sign --new-key NAME makes one"
    )


def _algorithm(key: "EllipticCurvePrivateKey | EllipticCurvePublicKey", hashed: Hash) -> Any:  # ec.ECDSA
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.ECDSA(getattr(hashes, "SHA256" if hashed == "sha256" else _CURVES[key.curve.name])())


def _pem_of(key: "EllipticCurvePublicKey") -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _require() -> None:
    try:
        import cryptography.hazmat.primitives.asymmetric.ec  # noqa: F401 - an extra
    except ImportError:
        raise MissingExtra("signatures need cryptography", hint="pip install 'ferryman[sign]'") from None


def _read(file: Path, what: str) -> bytes:
    try:
        with file.open("rb") as stream:
            payload = stream.read(_LIMIT_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{what} {file} can't be read: {error.strerror}", hint="check the path") from None
    if len(payload) > _LIMIT_BYTES or b"-----BEGIN" not in payload:
        raise ConfigError(f"{file} is no {what}", hint="it must be a PEM file: -----BEGIN ... KEY-----")
    return payload


def _write_new(file: Path, payload: bytes, *, mode: int) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(payload)
        stream.flush()
        os.fsync(stream.fileno())
