"""Find a bundle on a node: what lies there already, or what an OCI registry has, fetched once for all copies."""

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

from ferryman.core.errors import ConfigError, DeployError
from ferryman.core.scratch import user_cache

SCHEME = "oci://"
_LIMIT_S = 1800.0
_LAST_LINES = 8


def bundle_at(place: str, *, python: str = "") -> str:
    """Give the path of a bundle; one of a registry is pulled into the user's cache, by whichever copy comes first.

    Raises ConfigError for one that isn't named by its digest, DeployError where it can't be had.
    """
    if not place.startswith(SCHEME):
        return place
    reference = place.removeprefix(SCHEME)
    if "@sha256:" not in reference:
        raise ConfigError(
            f"{place} names no digest: a tag moves, and copies would differ", hint=f"{SCHEME}HOST/NAME@sha256:..."
        )
    kept = user_cache() / "ferryman" / "bundles"
    kept.mkdir(parents=True, exist_ok=True)
    folder = kept / hashlib.sha256(reference.encode()).hexdigest()[:16]
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():  # a pull leaves all of it, or nothing
            _pull(reference, folder, python or sys.executable)
    return str(folder)


def _pull(reference: str, folder: Path, python: str) -> None:
    command = [python, "-m", "ferryman", "--quiet", "pull", reference, "--output", str(folder)]
    try:
        done = subprocess.run(  # noqa: S603 - a list of words, no shell
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeployError(f"{reference} can't be fetched: {error}", hint="try `ferryman pull` on the node") from None
    if done.returncode != 0:
        said = "\n".join(done.stderr.strip().splitlines()[-_LAST_LINES:])
        raise DeployError(f"{reference} can't be fetched: {said}", hint="try `ferryman pull` on the node")
