"""Callers that a client certificate names, once TLS has checked it."""

import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ferryman.core.errors import Forbidden, Unauthorized
from ferryman.server.data.gate.caller import ALL_MODELS, Caller, Grant, Models
from ferryman.server.data.gate.gate import Certificate
from ferryman.server.data.gate.rates import Limit

_KINDS = ("URI", "DNS", "email")  # of subjectAltName, the most telling first
_CACHED = 4096


@dataclass(frozen=True, slots=True)
class CertificateRights:
    """Say what the owner of a certificate may."""

    scopes: frozenset[str] = frozenset({"infer", "read"})
    models: tuple[str, ...] = ("*",)
    limit: Limit | None = None


@dataclass(frozen=True, slots=True)
class CertificateSettings:
    """Map names in certificates to rights; with no mapping every certificate has `default`, else only those named."""

    rights: Mapping[str, CertificateRights] = field(default_factory=dict)
    default: CertificateRights = CertificateRights()


class Certificates:
    """Tell whom a verified certificate names: its first URI, DNS name or address, else its common name."""

    def __init__(self, settings: CertificateSettings | None = None) -> None:
        self._settings = settings or CertificateSettings()
        self._known: dict[object, Grant] = {}

    def find(self, certificate: Certificate) -> Grant:
        """Give what its owner may; raises Forbidden for one that is not mapped, Unauthorized for one without a name."""
        # An authority gives each serial number once.
        which = (certificate.get("issuer"), certificate.get("serialNumber"))
        grant = self._known.get(which)
        if grant is None:
            grant = self._grant(certificate)
            if len(self._known) >= _CACHED:
                del self._known[next(iter(self._known))]
            self._known[which] = grant
        return grant

    def _grant(self, certificate: Certificate) -> Grant:
        names = list(names_of(certificate))
        if not names:
            raise Unauthorized("the client certificate names nobody")
        mapped = self._settings.rights
        name = next((name for name in names if name in mapped), names[0])
        if mapped and name not in mapped:
            raise Forbidden(
                f"the certificate of {name!r} is not known here", hint="the server's settings name those that are"
            )
        rights = mapped.get(name, self._settings.default)
        models = ALL_MODELS if "*" in rights.models else Models(rights.models)
        # A connection may outlive its certificate.
        ends = certificate.get("notAfter")
        expires_s = float(ssl.cert_time_to_seconds(ends)) if isinstance(ends, str) else float("inf")
        return Grant(Caller(f"certificate:{name}", "certificate"), rights.scopes, models, rights.limit, expires_s)


def names_of(certificate: Certificate) -> Iterator[str]:
    """List the names in a certificate, the most telling first."""
    alternatives = certificate.get("subjectAltName", ())
    for wanted in _KINDS:
        yield from (name for kind, name in alternatives if kind == wanted)
    for part in certificate.get("subject", ()):
        yield from (name for kind, name in part if kind == "commonName")
