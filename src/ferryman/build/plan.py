"""Plan a build: which candidates can be reached from the source, and by which steps. Pure; runs nothing."""

import difflib
from collections import deque
from dataclasses import dataclass
from typing import Any

from ferryman.core.deployment import BuildSection
from ferryman.core.errors import ConfigError, PlanError
from ferryman.core.plugins import Plugin, plugins

State = tuple[str, str]
"""A format and a precision."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Name a format and precision worth trying, and the steps that make it. `unavailable` says why it can't be."""

    name: str
    format: str
    precision: str
    steps: tuple[str, ...]
    unavailable: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Hold the candidates of one build, in the order in which they are tried."""

    source_format: str
    candidates: tuple[Candidate, ...]

    def __str__(self) -> str:
        width = max((len(candidate.name) for candidate in self.candidates), default=0)
        return "\n".join(
            f"{candidate.name:<{width}}  "
            + (candidate.unavailable or " -> ".join((self.source_format, *candidate.steps)) or "as it is")
            for candidate in self.candidates
        )

    def as_json(self) -> dict[str, Any]:  # JSON
        """Give the plan as JSON values."""
        return {
            "source_format": self.source_format,
            "candidates": [
                {
                    "name": candidate.name,
                    "format": candidate.format,
                    "precision": candidate.precision,
                    "steps": list(candidate.steps),
                    "unavailable": candidate.unavailable,
                }
                for candidate in self.candidates
            ],
        }


def make_plan(source_format: str, section: BuildSection, *, calibration: int) -> Plan:
    """List every format and precision that a serving runtime loads, each by its shortest chain of steps.

    `calibration` is the number of samples that the user gives. Raises PlanError where nothing can be served,
    ConfigError where `build.candidates` or `build.options` names an unknown one.
    """
    routes = _shortest_routes(source_format)
    runtimes = [plugin for plugin in plugins("runtimes").values() if plugin.cls.serves]
    found = []
    for (format_name, precision), steps in routes.items():
        loaders = [plugin for plugin in runtimes if format_name in plugin.cls.formats]
        if loaders:
            why = _why_not(steps, loaders, section, calibration)
            found.append(Candidate(f"{format_name}-{precision}", format_name, precision, steps, why))
    if not found:
        raise PlanError(
            f"no installed chain of steps leads from '{source_format}' to a format that can be served",
            hint="ferryman plugins lists the steps and what they lack",
        )
    _check_names(section, [candidate.name for candidate in found])
    wanted = [c for c in found if section.candidates is None or c.name in section.candidates]
    return Plan(source_format, tuple(wanted))


def uncalibrated(source_format: str, section: BuildSection) -> tuple[Candidate, ...]:
    """List what can be made without calibration, also where `build.candidates` names only some."""
    return make_plan(source_format, section.model_copy(update={"candidates": None}), calibration=0).candidates


def _shortest_routes(source_format: str) -> dict[State, tuple[str, ...]]:
    start: State = (source_format, "fp32")
    routes: dict[State, tuple[str, ...]] = {start: ()}
    queue = deque([start])
    while queue:
        format_name, precision = state = queue.popleft()
        if precision != "fp32":
            continue  # what changes the precision comes last
        for plugin in plugins("steps").values():
            if format_name in plugin.cls.accepts:
                reached = (plugin.cls.produces, plugin.cls.precision or precision)
                if reached not in routes:
                    routes[reached] = (*routes[state], plugin.name)
                    queue.append(reached)
    return routes


def _why_not(steps: tuple[str, ...], loaders: list[Plugin], section: BuildSection, calibration: int) -> str:
    for plugin in [plugins("steps")[name] for name in steps]:
        if plugin.missing:
            return f"step '{plugin.name}' needs {', '.join(plugin.missing)}: {plugin.install_command}"
        if plugin.cls.calibrates and not calibration:
            return "needs calibration data: set data.calibration in ferryman.toml"
        least = section.options.get(plugin.name, {}).get("min_samples", getattr(plugin.cls, "min_samples", 0))
        if plugin.cls.calibrates and isinstance(least, int) and calibration < least:
            return (
                f"needs at least {least} calibration samples; there are {calibration}: add some to [data] calibration"
            )
    if all(plugin.missing for plugin in loaders):
        return f"its runtime needs {', '.join(loaders[0].missing)}: {loaders[0].install_command}"
    return ""


def _check_names(section: BuildSection, known: list[str]) -> None:
    for name in section.candidates or ():
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            raise ConfigError(
                f"build.candidates names '{name}', which is no candidate here"
                + (f"; did you mean '{nearest[0]}'?" if nearest else ""),
                hint=f"candidates of this model: {', '.join(known)}",
            )
    for name in section.options:
        if name not in plugins("steps"):
            raise ConfigError(
                f"build.options.{name} is not a step", hint=f"installed steps: {', '.join(plugins('steps'))}"
            )
