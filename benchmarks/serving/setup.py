"""Install the peers, each in an environment of its own: `python benchmarks/serving/setup.py [peer ...]`."""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.serving._venvs import VENVS, default_folder, install


def main() -> int:
    """Install; one that fails doesn't stop the others. 1 where one did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"some of: {', '.join(VENVS)} (default: all)")
    parser.add_argument("--folder", type=Path, default=default_folder(), help="where (default: %(default)s)")
    arguments = parser.parse_args()
    if unknown := set(arguments.peers) - set(VENVS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(VENVS)}")
    has_failed = False
    for name in arguments.peers or VENVS:
        start = time.monotonic()
        reason = install(name, arguments.folder)
        has_failed |= bool(reason)
        print(f"{name:<11} {'FAILED: ' + reason if reason else 'ok'} ({time.monotonic() - start:.0f} s)", flush=True)
    return 1 if has_failed else 0


if __name__ == "__main__":
    sys.exit(main())
