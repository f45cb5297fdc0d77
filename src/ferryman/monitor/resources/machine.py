"""All figures of the machine, read now and then: they change slowly, and looking costs CPU time."""

import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ferryman.monitor.resources.energy import Energy
from ferryman.monitor.resources.gpu import Gpu, Gpus
from ferryman.monitor.resources.heat import hottest_c
from ferryman.monitor.resources.throttle import Throttle

_LOOK_S = 10.0
_TICKS = os.sysconf("SC_CLK_TCK")
_BUSY = (0, 1, 2, 5, 6, 7)  # user, nice, system, irq, softirq, steal: the rest is idle, or counted twice
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Figures:
    """Hold the machine as it is; NaN where it isn't known, shares are between 0 and 1.

    `slowed` is 1 where heat or the power supply slow down processors or a GPU, `quota_used_up` the share of the time
    in which a container's CPU limit stopped its threads. `joules` are the processors' since the first look.
    """

    temperature_c: float = math.nan
    disk_free: float = math.nan
    slowed: float = math.nan
    quota_used_up: float = math.nan
    joules: float = math.nan
    gpus: tuple[Gpu, ...] = ()
    model_joules: Mapping[Key, float] | None = None
    missing: tuple[str, ...] = ()
    """What this machine doesn't tell, and why."""

    def to_json(self) -> dict[str, Any]:  # JSON
        """Give JSON values; what isn't known is None."""
        told = {key: _known(value) for key, value in asdict(self).items()}
        told["gpus"] = [{key: _known(value) for key, value in asdict(gpu).items()} for gpu in self.gpus]
        told["model_joules"] = [[*key, joules] for key, joules in sorted((self.model_joules or {}).items())]
        return told


class Machine:
    """Look each ten seconds at most. `folder` is on the disk that matters. For one thread; nothing here raises."""

    def __init__(self, folder: Path | None, root: Path = Path("/"), gpus: Gpus | None = None) -> None:
        self._folder, self._root = folder, root
        self._gpus = gpus or Gpus()
        self._throttle, self._energy = Throttle(root), Energy(root)
        self._figures = Figures()
        self._due_s = -math.inf
        self._busy_s = math.nan
        self._cpu_s: dict[Key, float] = {}
        self._model_joules: dict[Key, float] = {}

    def look(self, now_s: float, cpu_s: Callable[[], Mapping[Key, float]]) -> Figures:
        """Give the figures at a moment of a clock that never jumps; `cpu_s` tells each version's CPU seconds so far."""
        if now_s >= self._due_s:
            self._due_s = now_s + _LOOK_S
            self._figures = self._look(cpu_s())
        return self._figures

    def _look(self, cpu_s: Mapping[Key, float]) -> Figures:
        heat, quota = self._throttle.look()
        gpus = tuple(self._gpus.look())
        joules = self._energy.look()
        self._share_out(joules - self._figures.joules, cpu_s)
        slowed = [each for each in (heat, *(gpu.slowed for gpu in gpus)) if not math.isnan(each)]
        return Figures(
            hottest_c(self._root), free_share(self._folder), max(slowed, default=math.nan), quota, joules, gpus,
            dict(self._model_joules), tuple(why for why in (self._energy.why, self._gpus.why) if why),
        )  # fmt: skip

    def _share_out(self, joules: float, cpu_s: Mapping[Key, float]) -> None:
        """Give each version its part of the processors' energy: as much as it took of their busy time."""
        before_s, self._busy_s = self._busy_s, busy_seconds(self._root)
        passed_s = self._busy_s - before_s
        for key, seconds in cpu_s.items():
            spent_s = max(0.0, seconds - self._cpu_s.get(key, seconds))
            if joules >= 0 and passed_s > 0:
                part = min(1.0, spent_s / passed_s)
                self._model_joules[key] = self._model_joules.get(key, 0.0) + joules * part
        self._cpu_s = dict(cpu_s)


def free_share(folder: Path | None) -> float:
    """Give the share of a folder's disk that is free; NaN where that can't be told."""
    try:
        usage = shutil.disk_usage(folder) if folder is not None else None
    except OSError:
        return math.nan
    return usage.free / usage.total if usage is not None and usage.total else math.nan


def busy_seconds(root: Path = Path("/")) -> float:
    """Give the CPU seconds in which the machine's processors were not idle; NaN where the kernel doesn't tell."""
    try:
        words = (root / "proc/stat").read_text().split("\n", 1)[0].split()[1:]
        return sum(int(words[place]) for place in _BUSY) / _TICKS
    except (OSError, ValueError, IndexError):
        return math.nan


def _known(value: Any) -> Any:  # of a field
    return None if isinstance(value, float) and math.isnan(value) else value
