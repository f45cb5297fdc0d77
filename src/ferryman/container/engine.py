"""podman or docker, through their own command lines."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ferryman.container.owner import LABEL, PREFIX, owner_of
from ferryman.core.errors import FerrymanError, UserError

PROGRAMS = ("podman", "docker")
_CALL_S = 60.0
_PULL_S = 1800.0
_LONG = ("pull", "load")  # calls that end at Ctrl-C
_ENDING_S = 20.0


class EngineFailed(FerrymanError):
    """Report what a container engine refused to do, in its own words."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Hold what an engine says of an image: its config (OCI image-spec, config.md) and its size in bytes."""

    id: str
    config: dict[str, Any]  # JSON
    size_bytes: int
    platform: str
    names: tuple[str, ...] = ()
    health: dict[str, Any] = field(default_factory=dict)  # JSON

    @property
    def env(self) -> dict[str, str]:
        """Give the environment that it sets."""
        pairs = (entry.partition("=") for entry in self.config.get("Env") or [])
        return {name: value for name, _, value in pairs}

    @property
    def labels(self) -> dict[str, str]:
        """Give its labels."""
        return dict(self.config.get("Labels") or {})

    @property
    def user(self) -> str:
        """Give its user as it is written there: a name or number, perhaps with a group; "" stands for root."""
        return str(self.config.get("User") or "")

    @property
    def ports(self) -> tuple[int, ...]:
        """Give the TCP ports that it exposes."""
        numbers = (port.partition("/") for port in self.config.get("ExposedPorts") or {})
        return tuple(int(number) for number, _, kind in numbers if kind in ("", "tcp") and number.isdigit())


@dataclass(frozen=True, slots=True)
class Engine:
    """Ask one engine; every call has a deadline, and its errors come back as EngineFailed."""

    program: str
    version: str = ""

    def call(self, *words: str, timeout_s: float = _CALL_S, with_errors: bool = False) -> str:
        """Run one command and give its output; `with_errors` puts its stderr behind it."""
        try:
            done = _run([self.program, *words], timeout_s, is_short=words[0] not in _LONG)
        except subprocess.TimeoutExpired:
            raise EngineFailed(
                f"{self.program} {words[0]} did not come back within {timeout_s:g} s", hint=f"try: {self.program} info"
            ) from None
        except FileNotFoundError:
            raise UserError(f"{self.program} is not installed here", hint="install it, or --engine") from None
        if done.returncode:
            raise EngineFailed(f"{self.program} {words[0]}: {_last_words(done.stderr or done.stdout)}")
        return done.stdout + done.stderr if with_errors else done.stdout

    def json(self, *words: str, timeout_s: float = _CALL_S) -> Any:  # the engine's JSON
        """Run one command and read its JSON."""
        text = self.call(*words, timeout_s=timeout_s)
        try:
            return json.loads(text)
        except ValueError:
            raise EngineFailed(f"{self.program} {words[0]} gave no JSON: {text[:120]!r}") from None

    def find_image(self, name: str) -> ImageFacts | None:
        """Look an image up among those that are here."""
        try:
            found = self.json("image", "inspect", name)
        except EngineFailed as error:
            if any(word in str(error).lower() for word in ("no such image", "not known", "failed to find image")):
                return None
            raise
        return _facts(found[0])

    def pull(self, name: str) -> None:
        """Fetch an image from its registry, or with podman from another transport."""
        try:
            self.call("pull", "-q", *self._plain_http(name), name, timeout_s=_PULL_S)
        except EngineFailed as error:
            hint = f"is the name right? does `{self.program} pull {name}` work? (login: {self.program} login HOST)"
            raise UserError(f"{name} can't be pulled: {error}", hint=hint) from None

    def _plain_http(self, name: str) -> list[str]:
        """Let podman ask a registry of this machine without TLS, as docker does by itself."""
        host = name.partition("/")[0].rpartition(":")[0]
        return ["--tls-verify=false"] if self.program == "podman" and host in ("127.0.0.1", "localhost") else []

    def load(self, file: Path) -> str:
        """Load an archive that `save` of any engine wrote; gives the image's name or id."""
        try:
            told = self.call("load", "-q", "-i", str(file), timeout_s=_PULL_S)
        except EngineFailed as error:
            raise UserError(f"{file} can't be loaded: {error}", hint="is it a whole docker archive?") from None
        names = [line.partition(":")[2].strip() for line in told.splitlines() if line.startswith("Loaded image")]
        if not names:
            raise EngineFailed(f"{self.program} load did not say what it loaded: {told[:120]!r}")
        return names[-1].split(",")[0]

    @contextmanager
    def saved(self, image: str) -> Iterator[IO[bytes]]:
        """Open an image as a docker archive, a stream of which nothing lies on the disk."""
        with subprocess.Popen(  # noqa: S603 - a fixed program, no shell
            [self.program, "save", image], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:  # fmt: skip
            try:
                assert process.stdout is not None  # noqa: S101 - PIPE
                yield process.stdout
            finally:
                process.kill()

    def tag(self, image: str, name: str) -> None:
        """Give an image one more name."""
        self.call("tag", image, name)

    def remove_image(self, name: str) -> None:
        """Remove a name, and the image with its last one; silent where others use it."""
        try:
            self.call("rmi", name)
        except EngineFailed:
            return

    def remove(self, container: str) -> None:
        """Remove a container whatever it does; silent where it is gone."""
        try:
            # podman waits ten seconds for SIGTERM even here, unless told not to.
            self.call("rm", "-f", "-v", *(["-t", "0"] if self.program == "podman" else []), container)
        except EngineFailed as error:
            if "no such container" not in str(error).lower() and "no container" not in str(error).lower():
                raise

    def reap(self) -> list[str]:
        """Remove what runs that were killed left here: containers and loaded images; gives their names."""
        names = self.call("ps", "-a", "--filter", f"label={LABEL}", "--format", "{{.Names}}").split()
        gone = [name for name in names if (owner := owner_of(name)) is not None and owner.is_gone()]
        for name in gone:
            self.remove(name)
        for name in self._loaded():
            owner = owner_of(name.rpartition(":")[2])
            if owner is not None and owner.is_gone():
                self.remove_image(name)
                gone.append(name)
        return gone

    def _loaded(self) -> list[str]:
        names = self.call("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines()
        return [name for name in names if name.startswith(loaded_name(""))]


def loaded_name(name: str) -> str:
    """Give the name under which an image stands while it is examined; `name` is one of `new_name`'s."""
    return f"localhost/{PREFIX}:{name}"


def find_engine(name: str = "") -> Engine:
    """Give the engine of that name, else the first that works; raises UserError that says why none does."""
    reasons = []
    for program in (name,) if name else PROGRAMS:
        if shutil.which(program) is None:
            reasons.append(f"{program} is not installed")
            continue
        try:
            return Engine(program, _VERSIONS[program](Engine(program)))
        except EngineFailed as error:
            reasons.append(str(error))
    hint = f"install or start {name or 'podman or docker'}" + (", or leave --engine out" if name else "")
    raise UserError(f"no container engine works here: {'; '.join(reasons)}", hint=hint)


def _podman_version(engine: Engine) -> str:
    return str(engine.json("version", "--format", "json")["Client"]["Version"])


def _docker_version(engine: Engine) -> str:
    told = engine.json("version", "--format", "{{json .}}")
    if not told.get("Server"):
        raise EngineFailed("docker's daemon does not answer")
    return str(told["Server"]["Version"])


_VERSIONS: dict[str, Callable[[Engine], str]] = {"podman": _podman_version, "docker": _docker_version}


def _facts(told: dict[str, Any]) -> ImageFacts:  # the engine's JSON
    config = dict(told.get("Config") or {})
    return ImageFacts(
        id=str(told["Id"]),
        config=config,
        size_bytes=int(told.get("Size") or 0),
        platform=f"{told.get('Os', '')}/{told.get('Architecture', '')}",
        names=tuple(told.get("RepoTags") or ()),
        health=dict(told.get("Healthcheck") or config.get("Healthcheck") or {}),
    )


def _run(words: Sequence[str], timeout_s: float, *, is_short: bool) -> subprocess.CompletedProcess[str]:
    """Run a program in a session of its own: Ctrl-C ends us, and what cleans up must not be ended with us.

    A short one is let end first: an engine that is killed at its work leaves half a container, which it can't remove.
    """
    with subprocess.Popen(  # noqa: S603 - a fixed program, no shell
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            output, errors = process.communicate(timeout=timeout_s)
        except KeyboardInterrupt:
            if is_short:
                with suppress(subprocess.TimeoutExpired):
                    process.communicate(timeout=_ENDING_S)
            raise
        finally:
            process.kill()
    return subprocess.CompletedProcess(words, process.returncode, output, errors)


def _last_words(text: str) -> str:
    lines: Sequence[str] = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith("time=")]  # podman's log, beside its errors
    return " ".join((told or lines or ["no reason given"])[-2:])[:400]
