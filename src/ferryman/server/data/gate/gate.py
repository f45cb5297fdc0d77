"""Let a request in or not: who calls, what that one may, and how often."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ferryman.core.errors import Forbidden, Unauthorized
from ferryman.server.data.gate.caller import ANONYMOUS, SCOPE_OF, Action, Caller, Grant
from ferryman.server.data.gate.follow import Followed
from ferryman.server.data.gate.key_file import TOKEN_PREFIX
from ferryman.server.data.gate.key_store import KeyStore
from ferryman.server.data.gate.rates import Limit, RateLimits, network_of

Headers = Callable[[bytes], bytes | None]
"""Give the value of a header by its lower-case name."""

Certificate = Mapping[str, Any]  # as ssl.SSLSocket.getpeercert gives it: the module's own types

_SCHEME = b"bearer "
_HOW = "send Authorization: Bearer TOKEN"


class TokenVerifier(Protocol):
    """Tell who bears a token that is no API key; raises Unauthorized, or NotReady while it can't tell."""

    def find(self, token: bytes) -> Grant:
        """Give what its bearer may."""

    def start(self) -> None:
        """Begin to keep its keys fresh."""

    def close(self) -> None:
        """End that."""


class CertificateReader(Protocol):
    """Tell who a verified client certificate names; raises Forbidden."""

    def find(self, certificate: Certificate) -> Grant:
        """Give what its owner may."""


@dataclass(frozen=True, slots=True)
class Callers:
    """Say how callers prove who they are, and what those may who don't; with no way at all, the gate is open.

    `rights` is the file that `certificates` go by, where there is one.
    """

    keys: KeyStore | None = None
    tokens: TokenVerifier | None = None
    certificates: CertificateReader | None = None
    rights: Followed | None = None
    anonymous_scopes: frozenset[str] = frozenset()
    anonymous_limit: Limit | None = None

    def start(self) -> None:
        """Begin to follow changes of keys."""
        for source in (self.keys, self.tokens, self.rights):
            if source is not None:
                source.start()

    def close(self) -> None:
        """Follow them no more."""
        for source in (self.keys, self.tokens, self.rights):
            if source is not None:
                source.close()


class Gate:
    """Admit requests; on the loop only, and never blocks.

    Where no way to prove who calls is configured, everyone may infer and read, and control through a gate with
    `open_control`, which is for the admin's listener alone: nobody shows a certificate there, so that where those are
    the only way it is as open, except for infer. `clock` is the loop's.
    """

    __slots__ = ("_callers", "_clock", "_limits", "_nobody", "_unix_s")

    def __init__(
        self,
        callers: Callers | None = None,
        *,
        open_control: bool = False,
        clock: Callable[[], float] = time.monotonic,
        unix_s: Callable[[], float] = time.time,
    ) -> None:
        callers = callers or Callers()
        takes_certificates = callers.certificates is not None
        is_open = callers.keys is None and callers.tokens is None and (open_control or not takes_certificates)
        scopes = callers.anonymous_scopes
        if is_open:
            scopes = frozenset({"read"} if takes_certificates else {"infer", "read"})
            scopes |= {"admin"} if open_control else frozenset()
        self._callers = None if is_open else callers
        self._nobody = Grant(ANONYMOUS, scopes, limit=callers.anonymous_limit)
        self._limits = RateLimits()
        self._clock = clock
        self._unix_s = unix_s

    def admit(
        self, header: Headers, model: str | None, action: Action, peer: str = "", certificate: Certificate | None = None
    ) -> Caller:
        """Tell who calls; raises Unauthorized, Forbidden, RateLimited, or NotReady while a token can't be checked.

        Health endpoints need no gate: they are open. `model` is None where a request names none.
        """
        grant = self.known(header, action, certificate)
        if not grant.models.are_all:
            _check_reach(grant, model, action)
        if grant.limit is not None:
            who = grant.caller.id if grant is not self._nobody else f"anonymous at {network_of(peer)}"
            self._limits.take(who, grant.limit, self._clock())
        return grant.caller

    def known(self, header: Headers, action: Action, certificate: Certificate | None = None) -> Grant:
        """Tell what a caller may, before the model is known: raises as `admit` does, and counts nothing yet."""
        grant = self._nobody if self._callers is None else self._who(self._callers, header, certificate)
        if grant is not self._nobody and grant.expires_s <= self._unix_s():
            raise Unauthorized("the credential has expired", hint="ask for a new one")
        if SCOPE_OF[action] not in grant.scopes:
            raise self._refused(grant, action)
        return grant

    def _who(self, callers: Callers, header: Headers, certificate: Certificate | None) -> Grant:
        token = _token(header)
        if token is None:
            if certificate is not None and callers.certificates is not None:
                return callers.certificates.find(certificate)
            return self._nobody
        if callers.keys is not None and token.startswith(TOKEN_PREFIX):
            return callers.keys.find(token)
        if callers.tokens is not None:
            return callers.tokens.find(token)
        raise Unauthorized("the credential is not known here", hint=_HOW)

    def _refused(self, grant: Grant, action: Action) -> Unauthorized | Forbidden:
        if grant is self._nobody and self._callers is not None:
            return Unauthorized("this server answers only callers that it knows", hint=_HOW)
        elsewhere = "ask at the admin's port" if action == "control" else "ask at the other port, with a certificate"
        hint = f"this takes the scope '{SCOPE_OF[action]}'" if self._callers else elsewhere
        return Forbidden(f"{grant.caller.id} may not {action} here", hint=hint)


def _check_reach(grant: Grant, model: str | None, action: Action) -> None:
    if model is None:
        # What concerns the server as a whole concerns every model: reading it is harmless, steering it is not.
        if action == "control":
            raise Forbidden(f"{grant.caller.id} may control only the models {', '.join(grant.models.patterns)}")
    elif model not in grant.models:
        raise Forbidden(f"{grant.caller.id} may not use this model", hint="its credential names those that it may")


def _token(header: Headers) -> bytes | None:
    value = header(b"authorization")
    if value is not None:
        if value[:7].lower() != _SCHEME:
            raise Unauthorized("this server knows no such way to authenticate", hint=_HOW)
        return value[7:].strip()
    return header(b"x-api-key")
