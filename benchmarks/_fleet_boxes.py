"""Run the agents of some simulated boxes in one process, until it is killed: for benchmarks/fleet.py."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

from ferryman.core.errors import FerrymanError, NotReady
from ferryman.fleet.agent import Agent
from ferryman.fleet.box import read_box
from ferryman.fleet.service import Files


class Sickly(Files):
    """Serve nothing well that a file names."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def check(self, model: str, digest: str) -> None:
        """Be unwell with such a bundle."""
        if self._file.is_file() and digest in self._file.read_text():
            raise NotReady(f"{model} does not answer")


def live(folder: Path, number: int) -> None:
    """Be one box."""
    while True:
        try:
            Agent(read_box(folder / f"box-{number}.toml"), service=Sickly(folder / "sick")).run()
        except (FerrymanError, OSError) as error:
            print(f"box-{number}: {error!r}", file=sys.stderr, flush=True)
            time.sleep(1.0)


if __name__ == "__main__":
    place, first, amount = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    print(f"up {os.getpid()}", flush=True)
    for box in range(first, first + amount):
        threading.Thread(target=live, args=(place, box), daemon=True).start()
    signal.pause()
