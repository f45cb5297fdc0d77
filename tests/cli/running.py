"""Run the real command line in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path


def ferryman(
    *words: str, stdin: str = "", folder: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "120", "PYTHONIOENCODING": "utf-8", **variables}
    return subprocess.run(
        [sys.executable, "-m", "ferryman", *words],
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        cwd=folder,
        env=environment,
        timeout=120,
        check=False,
    )
