"""Find plug-ins through entry points; a plug-in's module is imported only when its kind is asked for."""

from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Any

from ferryman.core.errors import MissingExtra, PlanError
from ferryman.core.toolchain import find_toolchain

KINDS = ("sources", "steps", "runtimes", "tasks", "targets", "cameras")


@dataclass(frozen=True, slots=True)
class Plugin:
    """Describe one installed plug-in."""

    kind: str
    name: str
    package: str
    summary: str
    extra: str
    cls: Any  # the plug-in's class: a Source, Step, Runtime or TaskFactory

    @property
    def missing(self) -> tuple[str, ...]:
        """Give what it needs and is not there: Python modules, or a toolchain."""
        modules = tuple(module for module in getattr(self.cls, "needs", ()) if find_spec(module) is None)
        if not self._lacks_toolchain:
            return modules
        return (*modules, f"the toolchain {find_toolchain(self.cls.toolchain).title}")

    @property
    def _lacks_toolchain(self) -> bool:
        name = getattr(self.cls, "toolchain", "")
        return bool(name) and not find_toolchain(name).is_installed

    @property
    def is_available(self) -> bool:
        """Tell whether all that it needs is installed."""
        return not self.missing

    @property
    def install_command(self) -> str:
        """Give the command that adds what is missing."""
        if self._lacks_toolchain:
            return f"ferryman toolchain add {self.cls.toolchain}"
        return f'pip install "ferryman[{self.extra}]"' if self.extra else f"pip install {' '.join(self.missing)}"

    def require(self) -> Any:  # as `cls`
        """Give the class, or raise MissingExtra with the command that adds what it lacks."""
        if self.missing:
            raise MissingExtra(
                f"{self.kind[:-1]} '{self.name}' needs {', '.join(self.missing)}, which is not installed",
                hint=self.install_command,
            )
        return self.cls


def _describe(kind: str, entry: EntryPoint, cls: Any) -> Plugin:  # cls: a plug-in's class
    return Plugin(
        kind=kind,
        name=entry.name,
        package=entry.dist.name if entry.dist else "?",
        summary=(cls.__doc__ or "").strip().split("\n")[0],
        extra=getattr(cls, "extra", ""),
        cls=cls,
    )


@cache
def _load(kind: str) -> tuple[dict[str, Plugin], dict[str, str]]:
    healthy: dict[str, Plugin] = {}
    broken: dict[str, str] = {}
    for entry in sorted(entry_points(group=f"ferryman.{kind}"), key=lambda entry: entry.name):
        try:
            healthy[entry.name] = _describe(kind, entry, entry.load())
        except Exception as error:  # noqa: BLE001 - a third party's module may fail in any way, and must not hide others
            broken[entry.name] = f"{entry.value}: {type(error).__name__}: {error}"
    return healthy, broken


def plugins(kind: str) -> dict[str, Plugin]:
    """Give the installed plug-ins of a kind by name, in name order; those that can't be loaded are left out."""
    return _load(kind)[0]


def broken_plugins(kind: str) -> dict[str, str]:
    """Give the plug-ins whose module can't be loaded, each with its error."""
    return _load(kind)[1]


def find(kind: str, name: str) -> Plugin:
    """Give one plug-in, or raise PlanError that names the known ones."""
    known = plugins(kind)
    if name not in known:
        raise PlanError(f"no {kind[:-1]} is called '{name}'", hint=f"installed: {', '.join(known)}")
    return known[name]


def is_served(format_name: str) -> bool:
    """Tell whether some runtime, installed or not, serves a format; others only verify."""
    return any(plugin.cls.serves and format_name in plugin.cls.formats for plugin in plugins("runtimes").values())


def targets_of(format_name: str) -> tuple[str, ...]:
    """Give the kinds of place where a format runs, as the runtimes that load it say."""
    loaders = [plugin.cls for plugin in plugins("runtimes").values() if format_name in plugin.cls.formats]
    return tuple(dict.fromkeys(name for cls in loaders for name in getattr(cls, "targets", ())))


def runtime_for(format_name: str, *, serves: bool = False) -> Plugin:
    """Give the runtime that loads a format; available ones first. Raises PlanError where none does."""
    fits = [
        plugin
        for plugin in plugins("runtimes").values()
        if format_name in plugin.cls.formats and (plugin.cls.serves or not serves)
    ]
    if not fits:
        raise PlanError(f"no runtime loads format '{format_name}'", hint="ferryman plugins lists what is installed")
    return min(fits, key=lambda plugin: bool(plugin.missing))
