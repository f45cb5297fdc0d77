"""Which packages serve a bundle: what the server imports, and what the bundle's runtime and task ask for."""

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ferryman.core.bundle import Bundle
from ferryman.core.errors import ConfigError, MissingExtra
from ferryman.core.plugins import Plugin, find, runtime_for
from ferryman.package.target import Target
from ferryman.tasks.image import needs_opencv

_SERVER = ("numpy", "pydantic", "uvloop", "httptools", "wsproto", "hpack", "protobuf", "orjson", "pysimdjson")
_OPENCV = "opencv-python-headless"
_PACKAGES = {"cv2": _OPENCV, "PIL": "pillow", "sklearn": "scikit-learn", "cuda": "cuda-bindings"}
LEFT_OUT = {
    "openvino-telemetry": "sends figures of use away; only converters import it",
    "nvidia-nccl-cu12": "joins GPUs for training",
    "nvidia-nccl-cu13": "joins GPUs for training",
}
"""Requirements of others that no answer depends on, each with the reason."""


def roots_of(bundle: Bundle, *, extras: Iterable[str] = (), opencv: bool = False) -> list[str]:
    """Name the packages that serving this bundle imports by itself, with their extras (pyjwt[crypto]).

    Raises PlanError where nothing serves it.
    """
    runtime = runtime_for(bundle.artifact.format, serves=True)
    task = find("tasks", bundle.deployment.task.kind)
    names = [*_SERVER, *_of_plugin(runtime), *_of_plugin(task)]
    if opencv or needs_opencv(bundle.deployment.task):  # only where a task can't do without: it weighs 150 MB
        names.append(_OPENCV)
    return sorted({*map(canonicalize_name, names), *(one for extra in extras for one in _of_extra(extra))})


def closure(roots: Iterable[str], versions: Mapping[str, str], target: Target) -> dict[str, str]:
    """Give every package that `roots` need on the target, with its version: as in `versions`, else as installed here.

    Raises MissingExtra for a package that is neither.
    """
    known: dict[str, str] = {canonicalize_name(name): version for name, version in versions.items()}
    environment = target.environment()
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    left = [(Requirement(root), "") for root in roots]
    while left:
        wanted, wanted_by = left.pop()
        name = canonicalize_name(wanted.name)
        if name in LEFT_OUT:
            continue
        if name not in found:
            found[name] = known.get(name) or _installed(name, wanted_by)
        extras = {(name, extra) for extra in ("", *wanted.extras)} - seen
        seen |= extras
        for _, extra in extras:
            left += [(inner, name) for inner in _required(_requires(name), {**environment, "extra": extra})]
    return dict(sorted(found.items()))


def _required(texts: Iterable[str], environment: Mapping[str, str]) -> list[Requirement]:
    """Give the requirements that hold in an environment."""
    parsed = [Requirement(text) for text in texts]
    return [one for one in parsed if one.marker is None or one.marker.evaluate(dict(environment))]


def _of_plugin(plugin: Plugin) -> list[str]:
    plugin.require()
    own = [] if plugin.package in ("ferryman", "?") else [plugin.package]
    return own + [_package_of(module) for module in getattr(plugin.cls, "needs", ())]


def _of_extra(extra: str) -> list[str]:
    wanted = [Requirement(text) for text in requires("ferryman") or ()]
    names = [
        canonicalize_name(one.name) + (f"[{','.join(sorted(one.extras))}]" if one.extras else "")
        for one in wanted
        if one.marker and one.marker.evaluate({"extra": extra}) and not one.marker.evaluate({"extra": ""})
    ]
    if not names:
        raise ConfigError(f"ferryman has no extra '{extra}'", hint="auth, otel and sign are of use to a server")
    return names


def _package_of(module: str) -> str:
    if module in _PACKAGES:
        return _PACKAGES[module]
    try:
        return distribution(module).name
    except PackageNotFoundError:
        return next(iter(packages_distributions().get(module, [])), module)


def _installed(name: str, wanted_by: str) -> str:
    try:
        return distribution(name).version
    except PackageNotFoundError:
        needed = f" by {wanted_by}" if wanted_by else ""
        raise MissingExtra(
            f"{name} is needed{needed}, and its version is not known: it is not installed here",
            hint=f"pip install {name}",
        ) from None


def _requires(name: str) -> list[str]:
    try:
        return distribution(name).requires or []
    except PackageNotFoundError:
        return []
