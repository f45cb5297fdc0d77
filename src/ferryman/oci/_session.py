"""Ask one registry: who we are, redirects, retries, and errors that say what to do."""

import json
import math
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urljoin, urlsplit

from ferryman.core.errors import NotInRegistry, RegistryError
from ferryman.oci._login import Login, hint_to_log_in
from ferryman.oci._wire import Answer, Body, Broken, NotTls, Wire, is_loopback
from ferryman.oci.auth import Credentials

_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_REDIRECTS = (301, 302, 303, 307, 308)
_REDIRECT_LIMIT = 5
_WAIT_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Retry:
    """Say how often, and how long after each other, what may work the next time is tried again."""

    attempts: int = 6
    first_s: float = 0.5
    longest_s: float = 30.0

    def pause_s(self, attempt: int) -> float:
        """Give the pause before another attempt: doubled each time, spread so that many clients don't come at once."""
        longest = min(math.ldexp(self.first_s, attempt), self.longest_s)
        return longest * (0.5 + random.random() / 2)  # noqa: S311 - nothing secret


class Session:
    """Hold what one registry is asked with; used by several threads."""

    def __init__(
        self, host: str, wire: Wire, find: Callable[[], Credentials | None], *, insecure: bool, retry: Retry
    ) -> None:
        self.host = host
        self.retry = retry
        self.stopped = threading.Event()
        self._wire = wire
        self._is_insecure = insecure
        self._may_be_plain = insecure or is_loopback(urlsplit(f"//{host}").hostname or "")
        self._base = ""
        self._lock = threading.Lock()
        self._login = Login(host, find, self._ask_plainly)

    @property
    def base(self) -> str:
        """Give the registry's origin: https, or http where that is allowed and the only one that answers."""
        with self._lock:
            if not self._base:
                self._base = f"https://{self.host}" if self._speaks_tls() else f"http://{self.host}"
        return self._base

    def _speaks_tls(self) -> bool:
        if not self._may_be_plain:
            return True
        try:
            with self._persist(lambda: self._wire.ask("GET", f"https://{self.host}/v2/", {}, None)) as answer:
                answer.read_small()
        except NotTls:
            return False
        return True

    def refuse(self, answer: Answer, what: str) -> RegistryError:
        """Read an answer that is none of those wanted, and say what it means; `what` begins the sentence."""
        return _refuse(answer, what, self.host, is_known=self._login.is_known)

    def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        make_body: Callable[[], Body] | None = None,
        is_retried: bool = True,
    ) -> Answer:
        """Ask for a path or URL; gives any answer but "try again", "who are you?" and redirects of what is read.

        Raises RegistryError where nothing answers, or Broken where `is_retried` is False.
        """
        url = urljoin(f"{self.base}/", path)

        def send() -> Answer:
            return self._ask_known(method, url, dict(headers or {}), make_body)

        return self._persist(send) if is_retried else send()

    def get(self, path: str, *, headers: Mapping[str, str], limit_bytes: int) -> tuple[Answer, bytes]:
        """Ask for something small and read it, again where it breaks off; any answer but 200 comes unread."""
        attempt = 0
        while True:
            answer = self.ask("GET", path, headers=headers)
            if answer.status != HTTPStatus.OK:
                return answer, b""
            try:
                with answer:
                    return answer, answer.read_small(limit_bytes)
            except Broken as error:
                if attempt + 1 >= self.retry.attempts:
                    raise RegistryError(f"{self.host}: {error}", hint="look at the network, and run it again") from None
            self.pause(attempt)
            attempt += 1

    def _persist(self, send: Callable[[], Answer]) -> Answer:
        attempt = 0
        while True:
            try:
                answer = send()
                if answer.status not in _AGAIN or attempt + 1 >= self.retry.attempts:
                    return answer
                with answer:
                    answer.read_small()
                self.pause(attempt, retry_after=answer.header("Retry-After"))
            except NotTls as error:
                if self._may_be_plain:
                    raise
                raise RegistryError(f"{error}", hint="is it meant? then --insecure takes it without") from None
            except Broken as error:
                if attempt + 1 >= self.retry.attempts:
                    raise RegistryError(f"{self.host}: {error}", hint="look at its address, and the network") from None
                self.pause(attempt)
            attempt += 1

    def pause(self, attempt: int, *, retry_after: str = "") -> None:
        """Wait before another attempt, as long as the registry says; raises RegistryError where that is too long."""
        asked_s = _seconds(retry_after)
        if asked_s > _WAIT_LIMIT_S:
            raise RegistryError(f"{self.host} wants no question for {asked_s:.0f} s", hint="come back then")
        self.stopped.wait(max(asked_s, self.retry.pause_s(attempt)))
        self.check_going()

    def check_going(self) -> None:
        """Raise where another part of the same work has failed, and this one is of no use any more."""
        if self.stopped.is_set():
            raise RegistryError(f"{self.host}: stopped", hint="see the first error")

    def _ask_known(
        self, method: str, url: str, headers: dict[str, str], make_body: Callable[[], Body] | None
    ) -> Answer:
        """Ask, and once more where the registry wants to know who asks."""
        shown = ""
        for is_last in (False, True):
            shown = self._login.authorization
            answer = self._follow(method, url, {**headers, **({"Authorization": shown} if shown else {})}, make_body)
            if answer.status != 401 or is_last or not _is_same_origin(answer.url, self.base):
                return answer
            with answer:
                answer.read_small()
            if not self._login.answer(answer.headers("WWW-Authenticate"), refused=shown):
                return answer
        raise AssertionError("the loop returns")

    def _follow(self, method: str, url: str, headers: dict[str, str], make_body: Callable[[], Body] | None) -> Answer:
        for _ in range(_REDIRECT_LIMIT):
            self._check_scheme(url)
            shown = dict(headers)
            if not _is_same_origin(url, self.base):
                shown.pop("Authorization", None)  # another host's storage must not learn who we are
            answer = self._wire.ask(method, url, shown, make_body)
            if answer.status not in _REDIRECTS or method not in ("GET", "HEAD") or not answer.header("Location"):
                return answer
            with answer:
                answer.read_small()
            url = urljoin(url, answer.header("Location"))
        raise RegistryError(f"{self.host} sends us on more than {_REDIRECT_LIMIT} times", hint="ask who runs it")

    def _ask_plainly(
        self, method: str, url: str, headers: dict[str, str], make_body: Callable[[], Body] | None
    ) -> Answer:
        """Ask a token's place, which is not the registry: no login of ours but what the caller gives."""
        self._check_scheme(url)
        return self._persist(lambda: self._wire.ask(method, url, headers, make_body))

    def _check_scheme(self, url: str) -> None:
        parts = urlsplit(url)
        # A registry of this machine may be plain; what it names on another machine may not, least of all for tokens.
        is_plain_fine = self._is_insecure or (self._may_be_plain and is_loopback(parts.hostname or ""))
        is_fine = parts.scheme == "https" or (parts.scheme == "http" and is_plain_fine)
        if not is_fine or not parts.hostname or parts.username is not None:
            where = f"{parts.scheme}://{parts.hostname}"
            raise RegistryError(f"{self.host} sends us to {where}, which is not https", hint="is it meant? --insecure")


def _refuse(answer: Answer, what: str, host: str, *, is_known: bool) -> RegistryError:
    with answer:
        try:
            said = _reason(answer.read_small())
        except Broken:
            said = ""
    detail = f" ({said})" if said else ""
    if answer.status == 401:
        who = "these credentials" if is_known else "strangers"
        return RegistryError(f"{what}: {host} refuses {who}{detail}", hint=hint_to_log_in(host))
    if answer.status == 403:
        return RegistryError(
            f"{what}: {host} doesn't allow it{detail}", hint="ask for the right, or name another place"
        )
    if answer.status == 404:
        return NotInRegistry(f"{what}: {host} doesn't have it{detail}", hint="look at the name and the tag")
    if answer.status in _AGAIN:
        return RegistryError(f"{what}: {host} can't now: {answer.status}{detail}", hint="try again later")
    return RegistryError(f"{what}: {host} answers {answer.status}{detail}", hint="ask who runs it")


def _reason(payload: bytes) -> str:
    try:
        raw: Any = json.loads(payload)
        first = raw["errors"][0]
        said = f"{first.get('code', '')}: {first.get('message', '')}".strip(": ")
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""
    return "".join(sign for sign in said[:160] if sign.isprintable())


def _is_same_origin(url: str, base: str) -> bool:
    one, other = urlsplit(url), urlsplit(base)
    return (one.scheme, one.netloc.lower()) == (other.scheme, other.netloc.lower())


def _seconds(retry_after: str) -> float:
    if not retry_after:
        return 0.0
    try:
        return max(float(retry_after), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(retry_after).timestamp() - time.time(), 0.0)
    except ValueError:
        return 0.0
