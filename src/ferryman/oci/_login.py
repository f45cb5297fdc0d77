"""Answer a registry that asks who we are: Basic, or Bearer with a token from where it says (docker's protocol)."""

import json
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from urllib.parse import urlencode, urlsplit

from ferryman.core.errors import RegistryError
from ferryman.oci._wire import Answer, Body
from ferryman.oci.auth import Credentials

_PARAMETER = re.compile(r'([A-Za-z0-9_-]+)="((?:[^"\\]|\\.)*)"')
_CLIENT = "ferryman"
_TOKEN_LIMIT_BYTES = 256 * 1024
Ask = Callable[[str, str, dict[str, str], Callable[[], Body] | None], Answer]


@dataclass(frozen=True, slots=True)
class Bytes:
    """Be a body of bytes that are here."""

    payload: BytesIO
    size: int

    @classmethod
    def of(cls, payload: bytes) -> "Bytes":
        """Make one; each is read once."""
        return cls(BytesIO(payload), len(payload))

    def read(self, size: int = -1, /) -> bytes:
        """Give the next bytes."""
        return self.payload.read(size)


class Login:
    """Hold what proves who we are to one registry; `find` gives the credentials when it first asks."""

    def __init__(self, host: str, find: Callable[[], Credentials | None], ask: Ask) -> None:
        self._host = host
        self._find = find
        self._ask = ask
        self._lock = threading.Lock()
        self._credentials: Credentials | None = None
        self._has_looked = False
        self._authorization = ""

    @property
    def authorization(self) -> str:
        """Give what the registry took the last time, or "" where it has not asked yet."""
        return self._authorization

    @property
    def is_known(self) -> bool:
        """Tell whether there were credentials to show."""
        return self._credentials is not None

    def answer(self, challenges: Sequence[str], *, refused: str) -> bool:
        """Find an answer to what the registry asks; False where there is none other than the one it `refused`."""
        with self._lock:
            if self._authorization != refused:
                return True  # another thread has found one meanwhile
            if not self._has_looked:
                self._credentials, self._has_looked = self._find(), True
            kinds = {challenge.partition(" ")[0].lower(): challenge for challenge in challenges}
            if "bearer" in kinds:
                self._authorization = f"Bearer {self._token(kinds['bearer'])}"
            elif "basic" in kinds and self._credentials is not None:
                self._authorization = self._credentials.basic
            return self._authorization != refused

    def _token(self, challenged: str) -> str:
        challenge = {str(name): str(value) for name, value in _PARAMETER.findall(challenged)}
        realm = challenge.get("realm", "")
        if urlsplit(realm).scheme not in ("http", "https"):
            raise RegistryError(
                f"{self._host} names no place to get a token from: {realm!r:.80}", hint="ask who runs it"
            )
        asked: dict[str, str] = {key: challenge[key] for key in ("service", "scope") if key in challenge}
        known = self._credentials
        if known is not None and known.identity_token:
            form = asked | {"client_id": _CLIENT, "grant_type": "refresh_token", "refresh_token": known.identity_token}
            payload = urlencode(form).encode()
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = self._ask("POST", realm, headers, lambda: Bytes.of(payload))
        else:
            service = [("service", asked["service"])] if "service" in asked else []
            scopes = [("scope", scope) for scope in asked.get("scope", "").split(" ") if scope]
            account = [("account", known.username)] if known and known.username else []
            query = urlencode([*service, *scopes, *account])
            url = f"{realm}{'&' if '?' in realm else '?'}{query}" if query else realm
            answer = self._ask("GET", url, {"Authorization": known.basic} if known else {}, None)
        with answer:
            return self._read(answer, realm)

    def _read(self, answer: Answer, realm: str) -> str:
        payload = answer.read_small(_TOKEN_LIMIT_BYTES)
        where = urlsplit(realm).netloc
        if answer.status in (400, 401, 403):
            raise RegistryError(
                f"{where} gives no token for {self._host}: {answer.status}", hint=hint_to_log_in(self._host)
            )
        try:
            raw: Any = json.loads(payload)
            token = raw.get("token") or raw.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if answer.status != 200 or not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise RegistryError(f"{where} gives no token for {self._host}: {answer.status}", hint="try again later")
        return token


def hint_to_log_in(host: str) -> str:
    """Say how the user makes us known to a registry."""
    return f"docker login {host} (or podman login, skopeo login), then again"
