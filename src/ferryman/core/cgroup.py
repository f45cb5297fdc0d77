"""What the kernel lets this process use: a container's limits are in its control group, not in the machine's size."""

import math
from collections.abc import Iterator
from pathlib import Path

_NO_LIMIT_BYTES = 1 << 60  # version 1 says "no limit" with a number near the largest there is


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Give the cores that the control groups grant, a fraction where they do; None where there is no limit."""
    quotas = [*_quotas_v2(root), *_quotas_v1(root)]
    return min(quotas) if quotas else None


def memory_limit_bytes(root: Path = Path("/")) -> int | None:
    """Give the memory that the control groups grant; None where there is no limit."""
    files = [folder / "memory.max" for folder in _folders(root, "")]
    files += [folder / "memory.limit_in_bytes" for folder in _folders(root, "memory")]
    limits = [number for file in files if (number := _number(_words(file), 0)) is not None]
    return min((limit for limit in limits if limit < _NO_LIMIT_BYTES), default=None)


def cpu_periods(root: Path = Path("/")) -> dict[Path, tuple[int, int]]:
    """Give, by control group, how many periods of its CPU quota passed and in how many it was used up, since it began.

    Groups without a quota are left out, as nothing passes there.
    """
    found = {}
    for folder in (*_folders(root, ""), *_folders(root, "cpu")):
        words = _words(folder / "cpu.stat")
        told = dict(zip(words[::2], words[1::2], strict=False))
        periods, slowed = (_number([told.get(key, "")], 0) for key in ("nr_periods", "nr_throttled"))
        if periods and slowed is not None:
            found[folder] = (periods, slowed)
    return found


def whole_cores(quota: float) -> int:
    """Give the threads that use a quota up: part of a core still takes a thread."""
    return max(1, math.ceil(quota - 1e-6))


def _quotas_v2(root: Path) -> Iterator[float]:
    for folder in _folders(root, ""):
        words = _words(folder / "cpu.max")
        quota, period = _number(words, 0), _number(words, 1)
        if quota is not None and period:
            yield quota / period


def _quotas_v1(root: Path) -> Iterator[float]:
    for folder in _folders(root, "cpu"):
        quota = _number(_words(folder / "cpu.cfs_quota_us"), 0)
        period = _number(_words(folder / "cpu.cfs_period_us"), 0)
        if quota is not None and quota > 0 and period:
            yield quota / period


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """Give this process's group and all above it ("" is version 2): each of them may set a limit.

    In a container the path may be the host's while only the container's own group is mounted, so the mount counts too.
    """
    for mount in _mounts(root, controller):
        yield mount
        path = _group(root, controller)
        while path not in (None, "", "/"):
            yield mount / path.lstrip("/")
            path = path.rpartition("/")[0]


def _mounts(root: Path, controller: str) -> list[Path]:
    base = root / "sys/fs/cgroup"
    if not controller:
        return [base, base / "unified"]
    return [base / controller, base / "cpu,cpuacct"] if controller == "cpu" else [base / controller]


def _group(root: Path, controller: str) -> str:
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            return "" if ".." in path else path
    return ""


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except (OSError, ValueError):
        return []


def _number(words: list[str], place: int) -> int | None:
    try:
        return int(words[place])
    except (IndexError, ValueError):  # "max"
        return None
