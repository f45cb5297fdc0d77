"""One container: created shut, started, asked, stopped, and always removed."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ferryman.container.engine import Engine, EngineFailed
from ferryman.container.owner import LABEL, Owner, new_name
from ferryman.container.settings import Limits

_POLL_S = 0.1
_ENGINES_OWN = ("/dev", "/proc", "/sys", "/etc", "/run", "/run/.containerenv", "/etc/mtab")


class NotStarted(EngineFailed):
    """Report an image whose program can't be started: its entrypoint is missing, or no program of this machine."""


@dataclass(frozen=True, slots=True)
class Posture:
    """Say how far a container is shut; all of it is what an image must bear."""

    is_read_only: bool = True
    is_unprivileged: bool = True
    is_limited: bool = True


SHUT = Posture()


@dataclass(frozen=True, slots=True)
class Start:
    """Say how to start an image: its port in the container, its environment and arguments, its health check."""

    image: str
    port: int
    limits: Limits
    env: Mapping[str, str] = field(default_factory=dict)
    args: tuple[str, ...] = ()
    health: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class State:
    """Hold what the engine says of a container's process; `exit_code` means something once it has ended."""

    is_running: bool
    exit_code: int
    is_out_of_memory: bool
    pid: int
    health: str


@dataclass(frozen=True, slots=True)
class Container:
    """Hold a started container; `started_s` is when its process began, on time.time()'s clock."""

    engine: Engine
    name: str
    posture: Posture
    port: int
    pid: int
    started_s: float
    inside: tuple[str, int] = ("", 0)
    """Its address among the engine's containers: what listens there is the server itself, no proxy."""

    @property
    def url(self) -> str:
        """Give its address on this machine."""
        return f"http://127.0.0.1:{self.port}"

    def state(self) -> State:
        """Ask the engine about the process."""
        return _state(self.engine.json("inspect", self.name)[0])

    def logs(self, lines: int = 12) -> str:
        """Give its last words, from both streams."""
        with contextlib.suppress(EngineFailed):
            return self.engine.call("logs", "--tail", str(lines), self.name, with_errors=True).strip()
        return ""

    def signal(self, name: str) -> None:
        """Send a signal to its first process."""
        self.engine.call("kill", "-s", name, self.name)

    def wait(self, timeout_s: float) -> State:
        """Wait until its process has ended; the state tells whether it has."""
        deadline_s = time.monotonic() + timeout_s
        while (state := self.state()).is_running and time.monotonic() < deadline_s:
            time.sleep(_POLL_S)
        return state

    def changed_files(self) -> list[str]:
        """Name what was written to its root file system."""
        told = [line[2:] for line in self.engine.call("diff", self.name).splitlines() if line[:1] in ("A", "C")]
        inner = [path for path in told if not any(other.startswith(f"{path}/") for other in told)]
        return [path for path in inner if path not in _ENGINES_OWN]


@contextlib.contextmanager
def started(engine: Engine, start: Start, posture: Posture = SHUT) -> Iterator[Container]:
    """Run a container for the length of a block; removed whatever happens in it."""
    name = new_name()
    try:
        engine.call("create", *_words(engine, name, start, posture), timeout_s=120)
        try:
            engine.call("start", name)
        except EngineFailed as error:
            raise NotStarted(str(error)) from None
        told = engine.json("inspect", name)[0]
        networks = told.get("NetworkSettings") or {}
        yield Container(
            engine, name, posture, _published(networks, start.port), _state(told).pid,
            _seconds(told["State"]["StartedAt"]), (str(networks.get("IPAddress") or ""), start.port),
        )  # fmt: skip
    finally:
        engine.remove(name)


def _words(engine: Engine, name: str, start: Start, posture: Posture) -> list[str]:
    words = ["--name", name, "--label", f"{LABEL}={Owner.me()}", "--pids-limit", str(start.limits.pids)]
    words += ["--publish", f"127.0.0.1::{start.port}", "--pull", "never"]
    if posture.is_read_only:
        words += ["--read-only"]
        # podman would lay writable memory over /tmp, /run and /var/tmp: that is more than other platforms give.
        words += ["--read-only-tmpfs=false"] if engine.program == "podman" else []
    if posture.is_unprivileged:
        words += ["--cap-drop", "all", "--security-opt", "no-new-privileges"]
    if posture.is_limited:
        words += ["--memory", f"{start.limits.memory_mb}m", "--memory-swap", f"{start.limits.memory_mb}m"]
        words += ["--cpus", f"{start.limits.cpus:g}"]
    words += [word for pair in start.env.items() for word in ("--env", "=".join(pair))]
    return [*words, *start.health, start.image, *start.args]


def _state(told: dict[str, Any]) -> State:  # the engine's JSON
    state = told["State"]
    health = state.get("Health") or state.get("Healthcheck") or {}
    return State(
        is_running=bool(state.get("Running")),
        exit_code=int(state.get("ExitCode") or 0),
        is_out_of_memory=bool(state.get("OOMKilled")),
        pid=int(state.get("Pid") or 0),
        health=str(health.get("Status") or ""),
    )


def _published(networks: dict[str, Any], port: int) -> int:  # the engine's JSON
    bound = (networks.get("Ports") or {}).get(f"{port}/tcp") or [{}]
    return int(bound[0].get("HostPort") or 0)  # 0: it has ended already


def _seconds(stamp: str) -> float:
    """Read an engine's time stamp, which has more digits than datetime takes; now, where it is none."""
    head, _, rest = stamp.partition(".")
    digits = "".join(sign for sign in rest[:9] if sign.isdigit())
    zone = rest.lstrip("0123456789") or "Z"
    try:
        moment = datetime.fromisoformat(f"{head.removesuffix('Z')}.{digits[:6]:0<6}{zone.split(' ')[0]}")
    except ValueError:
        return time.time()
    return moment.timestamp()
