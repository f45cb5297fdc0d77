"""Plan a build: which candidates can be reached from the source, and by which steps. Pure; runs nothing."""

import difflib
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

from ferryman.core.deployment import BuildSection
from ferryman.core.errors import ConfigError, FerrymanError, PlanError
from ferryman.core.plugins import Plugin, is_served, plugins, targets_of
from ferryman.core.toolchain import find_toolchain

State = tuple[str, str]
"""A format and a precision."""
_FLOATS = ("fp32", "pruned")
"""Precisions that another step may lower: "pruned" becomes "pruned-int8"."""
ON_DEVICE = "on device: "
"""How the reason begins why an engine that is built where it runs can't be built here."""
_COSTS_S = (20.0, 10.0, 1.0)
"""Seconds of a step that doesn't say: in a toolchain, with calibration, another."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Name a format and precision worth trying, and the steps that make it. `unavailable` says why it can't be.

    `serves` is False for one that is only exported: another place runs it. `targets` are those of `build.targets` that
    it may win; `lacks` is a toolchain that has to be added first. `cost_s` is a guess of what making it takes, until
    that was measured; `is_made` tells that it is cached.
    """

    name: str
    format: str
    precision: str
    steps: tuple[str, ...]
    unavailable: str = ""
    serves: bool = True
    targets: tuple[str, ...] = ()
    cost_s: float = 0.0
    is_made: bool = False
    lacks: str = ""

    @property
    def is_exact(self) -> bool:
        """Tell whether this is to answer as the source does: what is lowered by no step, be it quantized itself."""
        return self.precision == "fp32" or not self.steps

    @property
    def judged_as(self) -> str:
        """Give the precision by whose promises it is judged."""
        return "fp32" if self.is_exact else self.precision


@dataclass(frozen=True, slots=True)
class Plan:
    """Hold the candidates of one build, in the order in which they are tried."""

    source_format: str
    candidates: tuple[Candidate, ...]
    targets: tuple[str, ...] = ()

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
                    "serves": candidate.serves,
                    "targets": list(candidate.targets),
                    "cost_s": candidate.cost_s,
                    "is_made": candidate.is_made,
                }
                for candidate in self.candidates
            ],
            "targets": {name: self.names_for(name) for name in self.targets},
        }

    def names_for(self, target: str) -> list[str]:
        """Give the candidates that may win a target, and can be made here."""
        return [one.name for one in self.candidates if target in one.targets and not one.unavailable]


def make_plan(source_format: str, section: BuildSection, *, calibration: int, precision: str = "fp32") -> Plan:
    """List every format and precision that is served or asked for, each by its shortest chain of steps.

    `calibration` is the number of samples that the user gives, `precision` the source's own. Raises PlanError where
    nothing can be served, ConfigError where `build.candidates`, `formats`, `targets` or `options` names an unknown one.
    """
    routes = _shortest_routes(source_format, precision)
    _check_formats(section, sorted({format_name for format_name, _ in routes}))
    _check_targets(section)
    found = []
    for (format_name, reached), steps in routes.items():
        name = f"{format_name}-{reached}"
        serves = is_served(format_name) and (
            _is_default(steps) if section.candidates is None else name in section.candidates
        )
        runs_on = [one for one in targets_of(format_name) if serves or one != "server"]
        targets = tuple(one for one in section.targets if one in runs_on)
        lacks = _lacking(steps, _loaders_of(format_name))
        found.append(Candidate(name, format_name, reached, steps, "", serves, targets, _guess_s(steps), lacks=lacks))
    if not any(is_served(candidate.format) for candidate in found):
        raise PlanError(
            f"no installed chain of steps leads from '{source_format}' to a format that can be served",
            hint="ferryman plugins lists the steps and what they lack",
        )
    _check_names(section, [candidate.name for candidate in found])
    wanted = [candidate for candidate in found if _is_wanted(candidate, section)]
    said = tuple(replace(candidate, unavailable=_why_not(candidate, section, calibration)) for candidate in wanted)
    return Plan(source_format, said, tuple(dict.fromkeys(section.targets)))


def _is_wanted(candidate: Candidate, section: BuildSection) -> bool:
    """Tell whether to try this: a candidate that is named, one of a format or target asked for, or what is served.

    Where `build.candidates` names any, they are all that is tried of what a build tries unasked.
    """
    is_special = any(getattr(plugins("steps")[name].cls, "on_request", False) for name in candidate.steps)
    if section.candidates is not None and any(name.startswith(f"{candidate.format}-") for name in section.candidates):
        return candidate.name in section.candidates
    if candidate.format in section.formats:
        return not is_special
    is_usual = is_served(candidate.format) and _is_default(candidate.steps)
    if candidate.targets and not (is_usual and section.candidates is not None):
        return not is_special
    return section.candidates is None and candidate.serves


def _guess_s(steps: tuple[str, ...]) -> float:
    """Guess the seconds of a chain: what each step says, or what its kind usually takes."""
    return sum(_step_cost_s(plugins("steps")[name].cls) for name in steps)


def _step_cost_s(step: Any) -> float:  # a plug-in's class
    apart, calibrated, plain = _COSTS_S
    usual = apart if getattr(step, "toolchain", "") else calibrated if step.calibrates else plain
    return float(getattr(step, "cost_s", usual))


def _is_default(steps: tuple[str, ...]) -> bool:
    """Tell whether a chain is tried unasked: nothing that takes a toolchain (but an import), or says `on_request`."""
    made_by = [plugins("steps")[name].cls for name in steps]
    made_by = [step for step in made_by if not getattr(step, "imports", False)]
    return not any(getattr(step, "toolchain", "") or getattr(step, "on_request", False) for step in made_by)


def uncalibrated(source_format: str, section: BuildSection, *, precision: str = "fp32") -> tuple[Candidate, ...]:
    """List what can be made without calibration, also where `build.candidates` names only some."""
    everything = section.model_copy(update={"candidates": None})
    return make_plan(source_format, everything, calibration=0, precision=precision).candidates


def _shortest_routes(source_format: str, source_precision: str) -> dict[State, tuple[str, ...]]:
    start: State = (source_format, source_precision)
    routes: dict[State, tuple[str, ...]] = {start: ()}
    queue = deque([start])
    while queue:
        format_name, precision = state = queue.popleft()
        for plugin in plugins("steps").values():
            # What lowers the precision comes last, but for steps that keep it.
            if format_name in plugin.cls.accepts and precision in (*_FLOATS, *getattr(plugin.cls, "takes", ())):
                reached = (plugin.cls.produces, _precision_after(precision, plugin.cls.precision))
                if reached not in routes:
                    routes[reached] = (*routes[state], plugin.name)
                    queue.append(reached)
    return routes


def _precision_after(before: str, made: str | None) -> str:
    """Name what a step makes of a precision: what was pruned stays pruned when its numbers change, too."""
    if made is None or made == before:
        return before
    return made if before == "fp32" else f"{before}-{made}"


def _loaders_of(format_name: str) -> list[Plugin]:
    return [plugin for plugin in plugins("runtimes").values() if format_name in plugin.cls.formats]


def _why_not(candidate: Candidate, section: BuildSection, calibration: int) -> str:
    for name in reversed(candidate.steps):  # the last one's toolchain brings its base
        plugin = plugins("steps")[name]
        if plugin.missing:
            return f"step '{plugin.name}' needs {', '.join(plugin.missing)}: {plugin.install_command}"
        if plugin.cls.calibrates and not calibration:
            return "needs calibration data: set data.calibration in ferryman.toml"
        least = section.options.get(plugin.name, {}).get("min_samples", getattr(plugin.cls, "min_samples", 0))
        if plugin.cls.calibrates and isinstance(least, int) and calibration < least:
            return (
                f"needs at least {least} calibration samples; there are {calibration}: add some to [data] calibration"
            )
    return _why_not_run(candidate.format)


def _why_not_run(format_name: str) -> str:
    """Say why nothing here runs a format: an engine that is built on its device may have no such device here."""
    is_run = is_served(format_name)
    loaders = [plugin for plugin in _loaders_of(format_name) if plugin.cls.serves or not is_run]
    if not loaders:
        return "nothing on this machine runs it, so nothing can be verified"
    if getattr(loaders[0].cls, "on_device", False):
        try:
            loaders[0].require()().identity()
        except FerrymanError as error:
            return f"{ON_DEVICE}{error}" + (f" ({error.hint})" if error.hint else "")
        except Exception as error:  # noqa: BLE001 - a vendor's package may fail in any way, and must end no build
            return f"{ON_DEVICE}{type(error).__name__}: {error}"
    elif all(plugin.missing for plugin in loaders):
        return f"its runtime needs {', '.join(loaders[0].missing)}: {loaders[0].install_command}"
    return ""


def _lacking(steps: tuple[str, ...], loaders: list[Plugin]) -> str:
    """Name the last toolchain of a chain that isn't there: adding it adds what it stands on."""
    chain = [*(plugins("steps")[name] for name in steps), *loaders]
    named = [getattr(plugin.cls, "toolchain", "") for plugin in chain]
    return next((name for name in reversed(named) if name and not find_toolchain(name).is_installed), "")


def _check_formats(section: BuildSection, known: list[str]) -> None:
    for name in section.formats:
        if name not in known:
            nearest = difflib.get_close_matches(name.lower(), known, n=1)
            format_name, _, precision = name.partition("-")
            one = (
                f"; one precision of it goes into build.candidates: '{name}'"
                if format_name in known and precision
                else ""
            )
            raise ConfigError(
                f"build.formats names '{name}', which is no format that an installed step makes of this model"
                + (f"; did you mean '{nearest[0]}'?" if nearest else ""),
                hint=f"formats of this model: {', '.join(known)}{one}",
            )


def _check_targets(section: BuildSection) -> None:
    known = sorted({name for one in plugins("runtimes").values() for name in getattr(one.cls, "targets", ())})
    for name in section.targets:
        if name not in known:
            nearest = difflib.get_close_matches(name.lower(), known, n=1)
            raise ConfigError(
                f"build.targets names '{name}', where no installed runtime runs"
                + (f"; did you mean '{nearest[0]}'?" if nearest else ""),
                hint=f"targets: {', '.join(known)}",
            )


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
