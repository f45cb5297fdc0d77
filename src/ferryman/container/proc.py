"""What Linux tells of a container's processes, where the engine runs on this machine: /proc and the control group."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_CGROUP = Path("/sys/fs/cgroup")
_V1_STATS = ("total_rss", "total_shmem")
_V2_STATS = ("anon", "shmem")


@dataclass(frozen=True, slots=True)
class Process:
    """Hold one process of a container; `uid` is what it is inside, `peak_kb` the most memory that it had resident."""

    pid: int
    name: str
    uid: int
    capabilities: int
    has_no_new_privileges: bool
    peak_kb: int


def processes(pid: int) -> list[Process]:
    """List what runs in the PID namespace of `pid`; empty where that can't be seen from here."""
    space = _link(pid)
    if not space:
        return []
    pids = (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())
    return [found for one in pids if _link(one) == space and (found := _process(one)) is not None]


def memory_in_use(pid: int) -> int | None:
    """Give the bytes that a container's processes hold and can't give back: anonymous and shared memory.

    Pages of files are left out, as the kernel takes them back when others need room.
    """
    for folder, names in ((_group(pid, "memory"), _V1_STATS), (_group(pid, ""), _V2_STATS)):
        stats = dict(line.split()[:2] for line in _read(folder / "memory.stat").splitlines()) if folder else {}
        if names[0] in stats:
            return sum(int(stats.get(name, 0)) for name in names)
    return None


def memory_kills(pid: int) -> int | None:
    """Give how many processes of a container the kernel ended because its memory was at the limit."""
    for folder, file in ((_group(pid, "memory"), "memory.oom_control"), (_group(pid, ""), "memory.events")):
        for line in _read(folder / file).splitlines() if folder else []:
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return None


def _process(pid: int) -> Process | None:
    lines = (line.partition(":") for line in _read(_PROC / str(pid) / "status").splitlines())
    status = {name: value.strip() for name, _, value in lines}
    if "Uid" not in status:
        return None
    return Process(
        pid=pid,
        name=status.get("Name", ""),
        uid=_inside(pid, int(status["Uid"].split()[1])),
        capabilities=int(status.get("CapEff", "0"), 16),
        has_no_new_privileges=status.get("NoNewPrivs") == "1",
        peak_kb=int(status.get("VmHWM", "0").split()[0]),
    )


def _inside(pid: int, uid: int) -> int:
    """Turn a user of this machine into the container's own (user_namespaces(7), uid_map)."""
    for line in _read(_PROC / str(pid) / "uid_map").splitlines():
        inner, outer, length = map(int, line.split())
        if outer <= uid < outer + length:
            return inner + uid - outer
    return uid


def _link(pid: int) -> str:
    try:
        return os.readlink(_PROC / str(pid) / "ns" / "pid")
    except OSError:
        return ""


def _group(pid: int, controller: str) -> Path | None:
    """Find a process's control group (cgroups(7)): of one controller in version 1, "" for version 2."""
    for line in _read(_PROC / str(pid) / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return _first_folder(controller, path)
    return None


def _first_folder(controller: str, path: str) -> Path | None:
    return next((folder for folder in _places(controller, path) if folder.is_dir()), None)


def _places(controller: str, path: str) -> Iterator[Path]:
    yield _CGROUP / controller / path.lstrip("/")
    yield _CGROUP / "unified" / path.lstrip("/")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
