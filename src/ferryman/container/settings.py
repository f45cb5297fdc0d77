"""What is asked of an image: how it is started, what it promised, how much it may take."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict

from ferryman.core.bundle import Bundle
from ferryman.core.contract import SERVER_MIB, serving_mib
from ferryman.core.runtime import available_cores

START_S = 2.0
BUDGETS_MB = {"onnx": 230.0, "openvino": 400.0}
"""The largest image of a bundle, uncompressed, by its model's format; other formats have none."""
MEMORY_MB = 2048
PIDS = 512


class VerifyImageChoices(TypedDict, total=False):
    """Be the keywords of `ferryman.api.verify_image`: fields of ImageSettings."""

    engine: str
    bundle: Path | None
    port: int
    env: Mapping[str, str]
    args: tuple[str, ...]
    model: str
    request: Mapping[str, Any] | None  # JSON
    memory_mb: int
    cpus: float
    only: tuple[str, ...]
    max_start_s: float | None
    max_image_mb: float | None
    max_rss_mb: float | None
    p99_ms: float | None
    at_rps: float | None
    start_s: float
    grace_s: float


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """Say how to start an image and what to expect; 0, "" and None stand for "as the image or its contract says".

    `request` is a V2 request, as JSON, for a model that can't be asked about made-up values.
    `only` names checks: the others are not tried. An image that is not ready within `start_s` is given up; after
    SIGTERM it has `grace_s` to end.
    """

    engine: str = ""
    bundle: Path | None = None
    port: int = 0
    env: Mapping[str, str] = field(default_factory=dict)
    args: tuple[str, ...] = ()
    model: str = ""
    request: Mapping[str, Any] | None = None  # JSON
    memory_mb: int = 0
    cpus: float = 0.0
    only: tuple[str, ...] = ()
    max_start_s: float | None = None
    max_image_mb: float | None = None
    max_rss_mb: float | None = None
    p99_ms: float | None = None
    at_rps: float | None = None
    start_s: float = 60.0
    grace_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Promises:
    """Hold what the image must keep; None where nobody promised anything."""

    max_start_s: float | None = None
    max_image_mb: float | None = None
    max_rss_mb: float | None = None
    p99_ms: float | None = None
    at_rps: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Hold what a container may take (memory in MiB, as engines count it), and in words where that comes from."""

    memory_mb: int
    cpus: float
    memory_from: str
    cpus_from: str
    pids: int = PIDS


def promises_of(settings: ImageSettings, bundle: Bundle | None) -> Promises:
    """Take each promise from the settings, else from the bundle's contract, else from what holds for all bundles."""
    found = Promises()
    if bundle is not None:
        contract = bundle.deployment.contract
        found = Promises(
            max_start_s=contract.max_cold_start_s or START_S,
            max_image_mb=BUDGETS_MB.get(bundle.manifest.format),
            max_rss_mb=contract.max_rss_mb,
            p99_ms=contract.p99_ms,
            at_rps=contract.at_rps,
        )
    given = {name: getattr(settings, name) for name in Promises.__dataclass_fields__}
    return replace(found, **{name: value for name, value in given.items() if value is not None})


def limits_of(settings: ImageSettings, promises: Promises, bundle: Bundle | None) -> Limits:
    """Take the limits from the settings, else from the contract and the way the bundle was tuned or built."""
    memory, memory_from = MEMORY_MB, "nothing is promised"
    if settings.memory_mb:
        memory, memory_from = settings.memory_mb, "as asked"
    elif promises.max_rss_mb is not None:
        memory = serving_mib(promises.max_rss_mb)  # as targets give it
        memory_from = f"max_rss_mb {promises.max_rss_mb:g}, a quarter more, and {SERVER_MIB} MiB for the server"
    cpus, cpus_from = _cpus(bundle)
    if settings.cpus:
        cpus, cpus_from = settings.cpus, "as asked"
    cores = available_cores()
    if cpus > cores:
        cpus, cpus_from = float(cores), f"{cpus_from}: {cpus:g}, of which this machine has {cores}"
    return Limits(memory, cpus, memory_from, cpus_from)


def _cpus(bundle: Bundle | None) -> tuple[float, str]:
    if bundle is not None and bundle.tuning is not None:
        choice = bundle.tuning.choice
        return float(choice.threads * choice.instances), "as the bundle was tuned"
    if bundle is not None and bundle.deployment.build.threads:
        return float(bundle.deployment.build.threads), "as the bundle was built"
    return float(available_cores()), "all that this machine has"
