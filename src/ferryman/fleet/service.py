"""What serves the bundle that `current` leads to: tried with a new one, led to it, asked whether it is well."""

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Protocol

from ferryman.bundle.golden import check_golden
from ferryman.client.access import NOBODY
from ferryman.client.admin import Admin
from ferryman.client.http import Client
from ferryman.client.link import Link, read_url
from ferryman.core.bundle import Bundle
from ferryman.core.errors import FerrymanError, NotReady, WrongAnswers
from ferryman.core.plugins import runtime_for
from ferryman.core.task import bind_task

_LOOK_S = 0.2
_LABEL = 12  # how much of a bundle's digest a server calls its version


class Service(Protocol):
    """Serve one bundle of a box."""

    def try_out(self, bundle: Bundle) -> None:
        """Ask a bundle its golden samples, apart from what serves; raises WrongAnswers, or NotReady for no answer."""

    def take_up(self, bundle: Bundle) -> None:
        """Serve what `current` leads to now; raises where that can't be."""

    def check(self, model: str, digest: str) -> None:
        """Raise NotReady unless this bundle of this model answers."""


class Files:
    """Be an application of the user's own, which reads the bundle that `current` leads to by itself."""

    def try_out(self, bundle: Bundle) -> None:
        """Ask the golden samples in this process."""
        runtime = runtime_for(bundle.artifact.format, serves=True).require()()
        session = runtime.load(bundle.artifact, threads=1)
        try:
            checks = check_golden(bundle, bind_task(bundle.deployment.task, bundle.artifact.signature), session)
        finally:
            session.close()
        if wrong := [check.name for check in checks if check.beyond]:
            raise WrongAnswers(
                f"golden sample '{wrong[0]}' is answered otherwise than when it was verified",
                hint="it was verified with other packages, or on another kind of machine",
            )

    def take_up(self, bundle: Bundle) -> None:
        """Do nothing: the link is all that there is."""

    def check(self, model: str, digest: str) -> None:
        """Believe it: nobody can be asked."""


class Served:
    """Be a `ferryman serve ROOT/current` on this box; `admin` is its admin address, `url` where it answers.

    A bundle is tried in a server of its own, on a free port, which ends after it; `limit_s` bounds that.
    """

    def __init__(self, url: str, admin: str, *, limit_s: float = 120.0, python: Sequence[str] = ()) -> None:
        self.url, self._admin, self._limit_s = url, admin, limit_s
        self._python = list(python) or [sys.executable, "-m", "ferryman"]

    def try_out(self, bundle: Bundle) -> None:
        """Start a server with the bundle alone: it is ready only once the golden samples are answered right."""
        port = _free_port()
        command = [*self._python, "serve", str(bundle.path), "--port", str(port), "--admin-port", "off"]
        with subprocess.Popen(  # noqa: S603 - our own program
            [*command, "--access-log", "off", "--json", "--quiet"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as trial:
            try:
                self._await_ready(trial, f"http://127.0.0.1:{port}", bundle.manifest.name)
            finally:
                trial.terminate()
                _end(trial)

    def _await_ready(self, trial: "subprocess.Popen[str]", url: str, model: str) -> None:
        ends_s, reason = time.monotonic() + self._limit_s, "it doesn't answer"
        while time.monotonic() < ends_s:
            if trial.poll() is not None:
                said = _last_words(trial)
                raise NotReady(f"tried by itself, {model} ends: {said.get('error')}", hint=str(said.get("hint", "")))
            status, reason = _readiness(url, reason)
            if status == http.client.OK:
                return
            if "golden" in reason:
                raise WrongAnswers(f"tried by itself: {reason}", hint="it was verified otherwise: see its log")
            time.sleep(_LOOK_S)
        raise NotReady(f"tried by itself, {model} is not ready after {self._limit_s:.0f} s: {reason}")

    def take_up(self, bundle: Bundle) -> None:
        """Have the server load what `current` leads to beside what it serves, and switch over without a gap.

        A server that isn't running takes it up when it starts.
        """
        try:
            Admin(self._admin, timeout_s=self._limit_s).load(bundle.manifest.name)
        except NotReady as error:
            if "nobody listens" not in str(error):
                raise

    def check(self, model: str, digest: str) -> None:
        """Ask whether the server is ready, and which version it serves."""
        with Client(self.url, timeout_s=10.0) as client:
            if not client.is_ready(model):
                raise NotReady(f"{self.url} is not ready", hint="look at its log")
            versions = client.metadata(model).get("versions") or []
            if digest[:_LABEL] not in versions:
                raise NotReady(f"{self.url} serves {', '.join(map(str, versions))}, not {digest[:_LABEL]}")


def make_service(kind: str, *, url: str, admin: str) -> Service:
    """Make the service that a box's settings name."""
    return Served(url, admin) if kind == "server" else Files()


def _free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        port: int = tried.getsockname()[1]
    return port


def _readiness(url: str, before: str) -> tuple[int, str]:
    """Ask whether a server is ready; gives the status (0: nobody answers) and the reason, else the one `before`."""
    link = Link(read_url(url, ""), timeout_s=5.0, access=NOBODY)
    try:
        reply = link.ask("GET", "/v2/health/ready", b"", {})
        return reply.status, str(json.loads(reply.payload or b"{}").get("error", before))
    except (FerrymanError, ValueError, AttributeError):
        return 0, before
    finally:
        link.close()


def _last_words(trial: "subprocess.Popen[str]") -> dict[str, object]:  # JSON
    """Read the line in which a server says why it ends."""
    try:
        said = json.loads(trial.stdout.read() if trial.stdout else "")
    except ValueError:
        return {"error": f"exit code {trial.returncode}"}
    return said if isinstance(said, dict) else {}


def _end(trial: "subprocess.Popen[str]") -> None:
    try:
        trial.wait(15.0)
    except subprocess.TimeoutExpired:
        trial.kill()


def tell_error(error: FerrymanError) -> str:
    """Give an error and its way out in one line."""
    return f"{error} ({error.hint})" if error.hint else str(error)
