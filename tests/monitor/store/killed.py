"""Kill a keeper's process at random moments: `python -m tests.monitor.store.killed FOLDER TIMES SEED`.

Each time a child is forked that adds records as fast as it can, seals and hands over; it writes how many it has added
into a pipe after each `add`. Prints, for each child, the number that it was sure of, as JSON.
"""

import contextlib
import json
import os
import random
import signal
import struct
import sys
import time
from pathlib import Path

import duckdb  # noqa: F401 - before the forks, so that each child is quick

from ferryman.core.record import Record, Value
from ferryman.core.recording import DirectorySink, RecordsSection
from ferryman.monitor.store.keeper import RecordKeeper

BATCH = 5


def work(folder: Path, child: int, told: int) -> None:
    """Add records until killed."""
    sink = DirectorySink(kind="directory", path=str(folder.with_name("copies")))
    section = RecordsSection(min_free_mb=0, seal_mb=0.01, sinks={"copies": sink})
    keeper = RecordKeeper(folder, section)
    added = 0
    while True:
        numbers = range(added, added + BATCH)
        signals: dict[str, list[Value]] = {"brightness": [1.0, 2.0], "label": ["a", None]}
        keeper.add(
            [Record(f"{child}-{number}", "street", "1", time.time(), "ok", columns=signals) for number in numbers]
        )
        added += BATCH
        os.write(told, struct.pack("<I", added))
        if added % (20 * BATCH) == 0:
            keeper.tick()


def kill_one(folder: Path, child: int, after_s: float) -> int:
    """Let a child work, kill it, and give how many records it was sure of."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            work(folder, child, writing)
        finally:
            os._exit(3)
    os.close(writing)
    first = os.read(reading, 4)
    deadline_s = time.monotonic() + after_s
    held = first
    while (left_s := deadline_s - time.monotonic()) > 0:
        time.sleep(min(left_s, 0.002))
        os.set_blocking(reading, False)
        with contextlib.suppress(BlockingIOError):
            held += os.read(reading, 1 << 20)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.set_blocking(reading, True)
    while more := os.read(reading, 1 << 20):
        held += more
    os.close(reading)
    if os.WTERMSIG(status) != signal.SIGKILL or not held:
        raise SystemExit(f"child {child} ended by itself: {status}")
    return int(struct.unpack("<I", held[len(held) - len(held) % 4 - 4 :][:4])[0])


def main() -> None:
    """Kill as many as asked, at moments drawn from the seed."""
    folder, times, draw = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    print(json.dumps([kill_one(folder, child, draw.uniform(0.0, 0.1)) for child in range(times)]))


if __name__ == "__main__":
    main()
