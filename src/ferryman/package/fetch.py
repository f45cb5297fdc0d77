"""Get wheels: from a folder, from what was got before, or with pip from where pip gets its packages."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.machinery import PathFinder
from pathlib import Path

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from ferryman.core.errors import ImageError, MissingExtra
from ferryman.core.progress import Progress
from ferryman.core.scratch import scratch_folder
from ferryman.package.target import Target
from ferryman.package.wheel import Wheel

_OFFLINE = "where there is no network, name a folder that holds them: --wheels DIR"
_TIME_S = 1800


class Wheels:
    """Get wheels for one target and keep them below `cache`, each under its digest."""

    def __init__(self, cache: Path, target: Target, *, folder: Path | None, progress: Progress) -> None:
        self._cache = cache
        self._target = target
        self._folder = folder
        self._progress = progress
        self._order = {tag: place for place, tag in enumerate(target.tags())}

    def get(self, versions: Mapping[str, str]) -> list[Wheel]:
        """Give a wheel for each package; raises ImageError that names those which can't be had."""
        for name, version in versions.items():
            _check_version(name, version)
        if self._folder:
            return [self._pick(self._folder, name, version) for name, version in versions.items()]
        found = {name: self._kept(name, version) for name, version in versions.items()}
        if missing := {name: version for name, version in versions.items() if found[name] is None}:
            found.update(self._download(missing))
        return [wheel for wheel in found.values() if wheel]

    def _pick(self, folder: Path, name: str, version: str) -> Wheel:
        """Choose the wheel in a folder that fits the target best."""
        fits: list[tuple[int, Path]] = []
        for path in sorted(folder.glob("*.whl")):
            try:
                found, number, _, tags = parse_wheel_filename(path.name)
            except InvalidWheelFilename:
                continue
            if (
                found == name
                and number == Version(version)  # 2025.08.03 is 2025.8.3 in a wheel's name
                and (ranks := [self._order[t] for t in tags if t in self._order])
            ):
                fits.append((min(ranks), path))
        if not fits:
            raise ImageError(
                f"{folder} holds no wheel of {name} {version} for {self._target.platform}, Python "
                f"{self._target.python} and {self._target.libc}",
                hint="pip download --only-binary=:all: --no-deps gets wheels",
            )
        path = min(fits)[1]
        return Wheel(name, version, path, _digest(path))

    def _kept(self, name: str, version: str) -> Wheel | None:
        try:
            record = json.loads(self._note(name, version).read_text(encoding="utf-8"))
            path = self._cache / "files" / record["sha256"] / record["file"]
            os.utime(path)
            os.utime(self._note(name, version))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Wheel(name, version, path, record["sha256"])

    def _note(self, name: str, version: str) -> Path:
        where = f"{self._target.python}-{self._target.libc}{self._target.libc_version[1]}-{self._target.machine}"
        return self._cache / where / f"{name}-{version}.json"

    def _download(self, versions: Mapping[str, str]) -> dict[str, Wheel]:
        # Not importlib.util.find_spec: asked for pip, setuptools' hook gives up its distutils, and torch can't compile.
        if PathFinder.find_spec("pip") is None:
            raise MissingExtra(
                "wheels are got with pip, which is not installed", hint=f"python -m ensurepip; {_OFFLINE}"
            )
        self._progress("get wheels", total=len(versions), note=", ".join(versions))
        self._cache.mkdir(parents=True, exist_ok=True)
        with scratch_folder(self._cache, prefix="getting-") as scratch:
            _run_pip(self._command(scratch, versions), versions, self._target)
            return {name: self._keep(self._pick(scratch, name, version)) for name, version in versions.items()}

    def _command(self, scratch: Path, versions: Mapping[str, str]) -> list[str]:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--dest", str(scratch), "--implementation", "cp", "--python-version", self._target.python]
        command += [word for name in self._target.platforms for word in ("--platform", name)]
        return command + [f"{name}=={version}" for name, version in versions.items()]

    def _keep(self, wheel: Wheel) -> Wheel:
        home = self._cache / "files" / wheel.sha256
        home.mkdir(parents=True, exist_ok=True)
        os.replace(wheel.path, home / wheel.path.name)
        note = self._note(wheel.name, wheel.version)
        note.parent.mkdir(parents=True, exist_ok=True)
        unfinished = note.with_name(f".{note.name}.{os.getpid()}")
        unfinished.write_text(json.dumps({"file": wheel.path.name, "sha256": wheel.sha256}), encoding="utf-8")
        os.replace(unfinished, note)
        return Wheel(wheel.name, wheel.version, home / wheel.path.name, wheel.sha256)


def _check_version(name: str, version: str) -> None:
    """Refuse what a bundle calls a version and is none: it would become words of pip's and a file's name."""
    try:
        Version(version)
    except InvalidVersion:
        raise ImageError(f"{version!r} is no version of {name}", hint="build the bundle again") from None


def _run_pip(command: list[str], versions: Mapping[str, str], target: Target) -> None:
    try:
        # our own interpreter's pip, with the names of packages
        result = subprocess.run(command, capture_output=True, text=True, timeout=_TIME_S)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise ImageError(f"pip took more than {_TIME_S} s", hint=_OFFLINE) from None
    if result.returncode == 0:
        return
    lines = [line.removeprefix("ERROR: ") for line in result.stderr.splitlines() if line.startswith("ERROR:")]
    unmatched = next((line for line in lines if "No matching distribution" in line), "")
    said = unmatched or (lines or result.stderr.strip().splitlines() or ["no reason given"])[-1]
    lacks_space = "No space left" in result.stderr
    raise ImageError(
        f"pip got no wheels for {target.platform}, Python {target.python}: {said}",
        hint="free space"
        if lacks_space
        else f"{_OFFLINE} (wanted: {', '.join(f'{n}=={v}' for n, v in versions.items())})",
    )


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
