"""Callers that a client certificate names, once TLS has checked it."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

from ferryman.core.errors import Forbidden, Unauthorized
from ferryman.server.data.gate.caller import ALL_MODELS, Caller, Grant, Models
from ferryman.server.data.gate.gate import Certificate
from ferryman.server.data.gate.rates import Limit

_DNS = "DNS"
_KINDS = ("URI", _DNS, "email")  # of subjectAltName, the most telling first
_WHICH = ("issuer", "serialNumber", "subject", "subjectAltName", "notAfter")
_CACHED = 4096


@dataclass(frozen=True, slots=True)
class CertificateRights:
    """Say what the owner of a certificate may."""

    scopes: frozenset[str] = frozenset({"infer", "read"})
    models: tuple[str, ...] = ("*",)
    limit: Limit | None = None


@dataclass(frozen=True, slots=True)
class CertificateSettings:
    """Map names in certificates to rights; `default` are those of all others, None where others have none.

    DNS names have no case: they are found by their lower-case form, whatever the mapping's keys have.
    """

    rights: Mapping[str, CertificateRights] = field(default_factory=dict)
    default: CertificateRights | None = CertificateRights()


class Certificates:
    """Tell whom a verified certificate names: its first URI, DNS name or address that has rights, else the first.

    Its common name counts only where it has none of these.
    """

    def __init__(self, settings: CertificateSettings | None = None) -> None:
        self.use(settings or CertificateSettings())

    def use(self, settings: CertificateSettings) -> None:
        """Go by other settings from now on, also for connections that are open already."""
        self._book = _Book(settings)

    def find(self, certificate: Certificate) -> Grant:
        """Give what its owner may; raises Forbidden for one that is not mapped, Unauthorized for one without a name."""
        book = self._book  # one and the same to the end, whatever `use` does meanwhile
        # An authority should give each serial number once; those that are made by hand don't.
        which = tuple(map(certificate.get, _WHICH))
        grant = book.known.get(which)
        if grant is None:
            grant = _grant(certificate, book)
            if len(book.known) >= _CACHED:
                del book.known[next(iter(book.known))]
            book.known[which] = grant
        return grant


@dataclass(frozen=True, slots=True)
class _Book:
    settings: CertificateSettings
    known: dict[object, Grant] = field(default_factory=dict)
    dns: dict[str, CertificateRights] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dns", {name.lower(): rights for name, rights in self.settings.rights.items()})

    def find(self, kind: str, name: str) -> CertificateRights | None:
        return (self.dns if kind == _DNS else self.settings.rights).get(name)


def _grant(certificate: Certificate, book: _Book) -> Grant:
    names = _names_of(certificate)
    if not names:
        raise Unauthorized("the client certificate names nobody")
    found = ((name, rights) for kind, name in names if (rights := book.find(kind, name)) is not None)
    name, rights = next(found, (names[0][1], book.settings.default))
    if rights is None:
        raise Forbidden(f"the certificate of '{name}' is not known here", hint="--client-rights names those that are")
    models = ALL_MODELS if "*" in rights.models else Models(rights.models)
    # A connection may outlive its certificate.
    ends = certificate.get("notAfter")
    expires_s = float(ssl.cert_time_to_seconds(ends)) if isinstance(ends, str) else float("inf")
    return Grant(Caller(f"certificate:{name}", "certificate"), rights.scopes, models, rights.limit, expires_s)


def _names_of(certificate: Certificate) -> list[tuple[str, str]]:
    """List the kinds and names in a certificate, the most telling first."""
    alternatives = certificate.get("subjectAltName", ())
    names = [
        (kind, name.lower() if kind == _DNS else name)
        for wanted in _KINDS
        for kind, name in alternatives
        if kind == wanted
    ]
    common = [(kind, name) for part in certificate.get("subject", ()) for kind, name in part if kind == "commonName"]
    return names or common
