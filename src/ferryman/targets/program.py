"""Run the programs that a place is steered with; what one says when it fails is what the user reads."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from ferryman.core.errors import ConfigError, DeployError

_LAST_LINES = 12


def find_program(*names: str, hint: str) -> str:
    """Give the path of the first of these programs that is there; raises ConfigError with the way to get one."""
    for name in names:
        if found := shutil.which(name):
            return found
    raise ConfigError(f"there is no {' and no '.join(names)} on this machine", hint=hint)


def run_program(
    command: Sequence[str],
    *,
    limit_s: float,
    folder: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Run a program and give what it writes; raises DeployError with its last lines where it fails or hangs."""
    shown = " ".join(command[:6]) + (" ..." if len(command) > 6 else "")
    try:
        done = subprocess.run(  # noqa: S603 - a list of words, no shell
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=limit_s, cwd=folder, check=False,
            env={**os.environ, **(variables or {})},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise DeployError(f"{shown} took over {limit_s:g} s", hint="try it by hand") from None
    except OSError as error:
        raise DeployError(f"{shown}: {error.strerror or error}", hint="is it installed, and may you run it?") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-_LAST_LINES:]
        raise DeployError(f"{shown} failed ({done.returncode}): " + "\n".join(said), hint="try it by hand")
    return done.stdout
