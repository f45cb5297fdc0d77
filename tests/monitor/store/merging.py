"""Small sealed files, and mergers that are killed: `python -m tests.monitor.store.merging FOLDER TIMES SEED`.

Prints JSON: how many mergers were killed at work, and rows and different ids after each kill, with what they should be.
"""

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import duckdb  # noqa: F401 - before the forks, so that each child is quick

from ferryman.monitor.store.layout import new_segment
from ferryman.monitor.store.merge import FEWEST, Merger
from ferryman.monitor.store.query import query
from ferryman.monitor.store.rows import decode, encode
from ferryman.monitor.store.seal import seal
from tests.monitor.store.conftest import record

RECORDS = 10


def small_files(folder: Path, count: int, *, first: int = 0) -> None:
    """Seal so many journals of ten records, numbered from `first` on."""
    (folder / "unfinished").mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        coded = [encode(record(RECORDS * number + place), Counter()) for place in range(RECORDS)]
        seal(folder, new_segment(number + 1), [decode(each) for each in coded], today="2026-11-23")


def ids(folder: Path) -> tuple[int, int]:
    """Count rows, and different ids."""
    [(rows, different)] = query(folder, "SELECT count(*), count(DISTINCT id) FROM records").rows
    return rows, different


def _forked(work: Callable[[], object], *, kill_after_s: float | None = None) -> int:
    """Do it in a child; gives its status."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - the child's boundary
            print(repr(error), file=sys.stderr)
            os._exit(3)
        os._exit(0)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def _merge(folder: Path) -> None:
    for names in (folder / "records").rglob("*.merged.json"):
        os.utime(names, (0, 0))  # a minute has passed
    while Merger(folder).step(None):
        pass


def main() -> None:
    """Kill as many as asked."""
    folder, times, draw = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    killed = made = 0
    seen = []
    for _ in range(times):
        more = draw.choice([1, FEWEST])
        if _forked(lambda first=made, more=more: small_files(folder, more, first=first)):  # type: ignore[misc]
            raise SystemExit("files can't be made")
        made += more
        killed += _forked(lambda: _merge(folder), kill_after_s=draw.uniform(0.0, 0.06)) == signal.SIGKILL
        reading, writing = os.pipe()
        _forked(lambda writing=writing: os.write(writing, json.dumps(ids(folder)).encode()))  # type: ignore[misc]
        os.close(writing)
        seen.append([json.loads(os.read(reading, 1000)), [RECORDS * made] * 2])
        os.close(reading)
    print(json.dumps({"killed": killed, "seen": seen}))


if __name__ == "__main__":
    main()
