"""Engines that are built from a model on the very device that runs them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeGuard

from ferryman.core.artifact import Artifact
from ferryman.core.errors import ConfigError
from ferryman.core.plugins import Plugin, plugins
from ferryman.core.runtime import Runtime

AUTO, OFF = "auto", "off"
_MOST_ROWS = 8
"""Rows of the largest call, where nobody says: memory is taken for as many."""


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """Say how to build: the user's options for this engine, and the cores of one call.

    `max_batch` is the most rows of one call (0: the engine's own choice). `shared` is a folder that outlives the build,
    for what later builds on this device can use again.
    """

    shared: Path
    options: Mapping[str, Any] = field(default_factory=dict)  # an engine's own, as in [build.options.NAME]
    max_batch: int = 0
    threads: int = 1


@dataclass(frozen=True)
class GpuOptions:
    """Say how a GPU's engine is built: a table of [build.options].

    `workspace_mb` bounds what a layer may take while it runs (0: all there is), `max_batch` the rows of one call (0: as
    the bundle was tuned, else 8). `sparse` uses 2:4 sparse kernels where weights are pruned so. `tf32` lets float32
    products round to 10 bits: faster, and seldom within a tight tolerance.
    """

    workspace_mb: int = 0
    max_batch: int = 0
    sparse: bool = False
    tf32: bool = False

    def __post_init__(self) -> None:
        for name in ("workspace_mb", "max_batch"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ConfigError(f"{name} = {value!r}", hint="it must be 0 or more")
        for name in ("sparse", "tf32"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} = {getattr(self, name)!r}", hint="it must be true or false")

    def rows(self, asked: int) -> int:
        """Give the rows of the largest call."""
        return self.max_batch or asked or _MOST_ROWS


class DeviceRuntime(Runtime, Protocol):
    """Be a runtime whose engines are built on the device: `build` writes a folder, which `load` answers with.

    `builds_from` are the formats that it builds from. Where `is_accelerator`, "auto" takes it wherever it can be had.
    `recipe` is counted up with each change of `build` that gives other engines: those of before are built anew.
    """

    builds_from: ClassVar[frozenset[str]]
    is_accelerator: ClassVar[bool]
    recipe: ClassVar[int]

    def identity(self) -> dict[str, str]:
        """Name what an engine that is built here depends on: the device, its driver, the versions of what builds it.

        Raises MissingExtra where this machine has no such device, or lacks what drives it.
        """

    def build(self, source: Artifact, folder: Path, request: EngineRequest) -> None:
        """Write an engine into an empty folder; raises StepError, ConfigError for an option that isn't one."""


def fingerprint_of(runtime: DeviceRuntime, source: Artifact, request: EngineRequest) -> dict[str, str]:
    """Name all that an engine depends on: the model, how it is built, and where."""
    return {
        "engine": runtime.name,
        "recipe": str(runtime.recipe),
        "model": source.digest,
        "precision": source.precision,
        "options": json.dumps(dict(request.options), sort_keys=True),
        "max_batch": str(request.max_batch),
        **runtime.identity(),
    }


def builds_engines(runtime: Any) -> TypeGuard[DeviceRuntime]:  # a runtime, or its class
    """Tell whether a runtime's engines are built on the device."""
    return hasattr(runtime, "builds_from")


def device_runtimes() -> list[Plugin]:
    """List the runtimes that build engines on the device, installed or not."""
    return [plugin for plugin in plugins("runtimes").values() if builds_engines(plugin.cls)]


def find_device_runtime(name: str) -> Plugin:
    """Give one by its name; raises ConfigError with those that there are."""
    known = {plugin.name: plugin for plugin in device_runtimes()}
    if name not in known:
        raise ConfigError(
            f"no engine that is built on the device is called '{name}'",
            hint=f"there are {', '.join([AUTO, OFF, *known])}",
        )
    return known[name]


def choose_device_runtime(name: str, model_format: str) -> Plugin | None:
    """Give the one that is asked for, or for "auto" an accelerator's whose packages are here; None where there is none.

    Raises ConfigError for a name that isn't one, or one that is not built from this format.
    """
    if name == OFF:
        return None
    if name == AUTO:
        there = [plugin for plugin in device_runtimes() if plugin.cls.is_accelerator and plugin.is_available]
        return next((plugin for plugin in there if model_format in plugin.cls.builds_from), None)
    plugin = find_device_runtime(name)
    if model_format not in plugin.cls.builds_from:
        raise ConfigError(
            f"{name} engines are built from {' or '.join(sorted(plugin.cls.builds_from))}; "
            f"the model in this bundle is '{model_format}'",
            hint="name a candidate of that format in [build] candidates",
        )
    return plugin
