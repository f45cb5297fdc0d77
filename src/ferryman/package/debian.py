"""Get a Python for another machine from Debian's packages: unpacked by reading, none of it is run."""

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ferryman.core.errors import ImageError
from ferryman.core.progress import Progress
from ferryman.core.scratch import scratch_folder
from ferryman.package.python import Interpreter

_BESIDE = ("libstdc++6", "libgcc-s1", "libgomp1")
_VERSIONS = "ferryman-packages"
_TIME_S = 600
_WEEK_S = 7 * 86400
_KEPT_WEEKS = 4
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_OTHERWISE = "name a base for that platform with --base"
_CONFIG = """\
APT::Architecture "{machine}";
APT::Architectures {{ "{machine}"; }};
APT::Sandbox::User "root";
Acquire::Languages "none";
Dir::State::lists "{folder}/lists";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
"""
_WITHOUT = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")


Get = Callable[[str, str, Path, Progress], None]


def debian_interpreter(machine: str, short: str, cache: Path, progress: Progress) -> Interpreter:
    """Give Debian's Python of a version (3.11) for a machine, from `cache` where it was got within a week.

    Raises ImageError where this system has no apt, or its sources lack that Python or that machine.
    """
    root = renewed(machine, short, cache, progress)
    executable = root / f"usr/bin/python{short}"
    library = root / f"usr/lib/python{short}"
    return Interpreter(
        root=root,
        machine=machine,
        version=debian_versions(root)[f"python{short}-minimal"].partition("-")[0],
        executable=executable,
        library=library,
        modules=library / "lib-dynload",
    )


def renewed(
    machine: str, short: str, cache: Path, progress: Progress, *, now_s: float = 0.0, get: Get | None = None
) -> Path:
    """Give the folder of this week's packages; last week's where these can't be got, and older ones go after a month.

    `now_s` is on time.time()'s clock; `get` writes the packages into a folder.
    """
    week = int((now_s or time.time()) // _WEEK_S)
    root = cache / f"{machine}-{short}-{week}"
    held = {int(one.name.rpartition("-")[2]): one for one in cache.glob(f"{machine}-{short}-[0-9]*")}
    for older in [folder for number, folder in held.items() if number < week - _KEPT_WEEKS]:
        shutil.rmtree(older, ignore_errors=True)
    if (root / _VERSIONS).is_file():
        return root
    whole = [number for number, folder in held.items() if (folder / _VERSIONS).is_file()]
    try:
        (get or _get)(machine, short, root, progress)
    except ImageError as error:
        if not whole:
            raise
        progress(f"Debian's Python of {week - max(whole)} weeks ago is taken", note=str(error))
        return held[max(whole)]
    return root


def debian_versions(root: Path) -> dict[str, str]:
    """Tell which packages were unpacked there, with their versions."""
    lines = (root / _VERSIONS).read_text(encoding="utf-8").splitlines()
    return dict(sorted((line.split("_")[0], line.split("_")[1].replace("%3a", ":")) for line in lines))


def _get(machine: str, short: str, root: Path, progress: Progress) -> None:
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise ImageError(
            f"a base for linux/{machine} is made from Debian's packages, and here is no apt", hint=_OTHERWISE
        )
    root.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(root.parent, prefix="getting-") as scratch:
        _configure(scratch, machine)
        progress(f"get Python {short} for linux/{machine}", note="Debian packages")
        _apt(scratch, ["update"], machine)
        names = _needed(scratch, [f"python{short}-minimal", f"libpython{short}-stdlib", *_BESIDE], machine)
        _apt(scratch, ["download", *names], machine)
        unpacked = scratch / "root"
        unpacked.mkdir()
        packages = sorted(scratch.glob("*.deb"))
        for package in packages:
            _run(["dpkg-deb", "-x", str(package), str(unpacked)], scratch, machine)
        (unpacked / _VERSIONS).write_text("\n".join(package.name for package in packages), encoding="utf-8")
        settle(unpacked, root)


def settle(unpacked: Path, root: Path) -> None:
    """Put a whole folder in its place, where another run may have put the same meanwhile."""
    try:
        unpacked.rename(root)
    except OSError:
        if not (root / _VERSIONS).is_file():
            raise


def _configure(scratch: Path, machine: str) -> None:
    for folder in ("lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True)
    (scratch / "status").touch()
    (scratch / "apt.conf").write_text(_CONFIG.format(machine=machine, folder=scratch), encoding="utf-8")


def _needed(scratch: Path, names: Sequence[str], machine: str) -> list[str]:
    """List packages with all that they depend on; virtual ones, in angle brackets, are nothing to get."""
    words = ["apt-cache", "depends", "--recurse", *(f"--no-{kind}" for kind in _WITHOUT), *names]
    lines = _run(words, scratch, machine).splitlines()
    return sorted({line.strip() for line in lines if re.fullmatch(r"[a-z0-9][a-z0-9.+-]+", line)})


def _apt(scratch: Path, words: Sequence[str], machine: str) -> str:
    return _run(["apt-get", "--quiet=2", *words], scratch, machine)


def _run(command: Sequence[str], scratch: Path, machine: str) -> str:
    try:
        # Debian's own tools, with names of packages
        result = subprocess.run(  # noqa: S603
            command, cwd=scratch, env={"APT_CONFIG": str(scratch / "apt.conf"), "PATH": _PATH},
            capture_output=True, text=True, timeout=_TIME_S,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ImageError(f"{command[0]} failed: {error}", hint=_OTHERWISE) from None
    if result.returncode:
        said = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ImageError(f"no packages for linux/{machine}: {command[0]} says: {said}", hint=_OTHERWISE)
    return result.stdout
