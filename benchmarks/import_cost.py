"""Measure what Ferryman costs before it does anything: CPU seconds of an import and of --help, megabytes installed."""

import argparse
import resource
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
LIMIT_MB = 320


def cpu_seconds(command: list[str], *, runs: int) -> float:
    """Give the least user plus system time of some runs; the least is the one that others disturbed least."""
    least = float("inf")
    for _ in range(runs):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=120)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        least = min(least, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return least


def megabytes(path: Path) -> float:
    """Give the size of a file or folder in MB of 2^20 bytes, as du counts, .pyc left out."""
    files = [path] if path.is_file() else [child for child in path.rglob("*") if child.is_file()]
    return sum(file.lstat().st_size for file in files if file.suffix != ".pyc") / 2**20


def install_core(folder: Path) -> Path:
    """Install the core into a fresh environment without pip; gives its site-packages."""
    venv.create(folder, with_pip=False, symlinks=True)
    command = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet", "--quiet"]
    command += ["--no-compile", "-c", str(REPOSITORY / "constraints" / "core.txt"), str(REPOSITORY)]
    subprocess.run(command, check=True, timeout=900)
    return next(folder.glob("lib/python*/site-packages"))


def weigh(site_packages: Path) -> list[tuple[str, float]]:
    """Give each package's megabytes, heaviest first; shared libraries beside a package count to it."""
    weights: dict[str, float] = {}
    for entry in site_packages.iterdir():
        name = entry.name.split(".libs")[0].split(".dist-info")[0].rsplit("-", 1)[0]
        name = {"opencv_python_headless": "cv2"}.get(name, name)
        weights[name] = weights.get(name, 0.0) + megabytes(entry)
    return sorted(weights.items(), key=lambda item: -item[1])


def main() -> int:
    """Print the table; 1 where the installation is over its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--no-install", action="store_true", help="leave the installed size out")
    arguments = parser.parse_args()
    measured = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "import numpy": [sys.executable, "-c", "import numpy"],
        "import ferryman": [sys.executable, "-c", "import ferryman"],
        "import ferryman.api": [sys.executable, "-c", "import ferryman.api"],
        "ferryman --help": [str(Path(sys.executable).parent / "ferryman"), "--help"],
    }
    print(f"CPU seconds, the least of {arguments.runs}")
    for name, command in measured.items():
        print(f"  {name:20} {cpu_seconds(command, runs=arguments.runs):6.3f}")
    if arguments.no_install:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        site_packages = install_core(Path(folder) / "core")
        total = megabytes(site_packages)
        print(f"installed core, MB (2^20 bytes, no .pyc): {total:.0f}, limit {LIMIT_MB}")
        for name, weight in weigh(site_packages):
            if weight >= 1:
                print(f"  {name:20} {weight:6.1f}")
    return 0 if total <= LIMIT_MB else 1


if __name__ == "__main__":
    sys.exit(main())
