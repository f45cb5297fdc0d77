"""Check house rules that no linter knows: short files, nothing of one machine in them, no generated leftovers."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 400
MAX_BYTES = 1_500_000
# Where a package comes from and where a developer's folders lie are settings of one machine, never of the project.
FORBIDDEN = (
    (
        "a package registry's address",
        re.compile(r"(?i)://[^/\s]*(py[p]i\.|python[h]osted|npm[j]s|deb[i]an\.org|[p]ytorch\.org/whl)"),
    ),
    ("a path of one machine", re.compile(r"(?<![\w.$/}~-])/(?:r[o]ot|h[o]me|w[o]rk|U[s]ers|o[p]t/(?:wheels|pyp))/")),
)
TEXT = {".py", ".md", ".toml", ".txt", ".json", ".yml", ".yaml", ".html", ".js", ".css", ".cfg", ""}


def tracked_files() -> list[Path]:
    """List the files that git tracks or would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def faults_in(path: Path) -> list[str]:
    """Give what is wrong with one file, each as a line for people."""
    name = path.relative_to(ROOT).as_posix()
    if path.stat().st_size > MAX_BYTES:
        return [f"{name}: {path.stat().st_size} bytes; at most {MAX_BYTES} belong in the repository"]
    if path.suffix not in TEXT:
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    faults = []
    if path.suffix == ".py" and len(lines) >= MAX_LINES:
        faults.append(f"{name}: {len(lines)} lines; split it by what it does (under {MAX_LINES})")
    for number, line in enumerate(lines, start=1):
        faults += [f"{name}:{number}: names {what}" for what, pattern in FORBIDDEN if pattern.search(line)]
    return faults


def main() -> int:
    """Print every fault; 1 where there are some."""
    faults = [fault for path in tracked_files() for fault in faults_in(path)]
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
