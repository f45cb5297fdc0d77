"""Ten minutes at a thousand requests a second with a watch: does memory stay, and is every request accounted for?

`python -m benchmarks.soak_watch [--rate 1000] [--minutes 10]` serves a table's model with `--monitor` on 127.0.0.1,
sends at that rate whatever comes back, and prints a line each ten seconds (resident memory, in brackets what of it is
not shared), the slope of each process's memory (over
the second half: records are sealed for the first time before), and the sums that must agree. Exit code 1 where one
doesn't. Predicted before the first run: slopes below 1 MB a minute, no record lost.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from benchmarks._steady import Caller, Taken, post, taken
from tests.server.running import Running, running
from tests.server.watch.making import bundle_watched, make_rows

from ferryman.monitor.store.query import counts

_EVERY_S = 10.0
_MOST_MB_A_MINUTE = 1.0
_FLUSHED_S = 5.0


async def soak(server: Running, caller: Caller, rate: float, seconds: float) -> list[tuple[float, dict[int, Taken]]]:
    """Ask for so long; gives what each process took, by the seconds since the start."""
    began_s = time.monotonic()
    asking = asyncio.create_task(caller.ask(rate, seconds))
    seen = [(0.0, taken(server.process.pid))]
    while not asking.done():
        await asyncio.wait([asking], timeout=_EVERY_S)
        at_s, ended = time.monotonic() - began_s, caller.tally.ended
        seen.append((at_s, taken(server.process.pid)))
        sizes = "  ".join(
            f"{each.name} {each.resident_bytes / 1e6:.1f} ({each.own_bytes / 1e6:.1f}) MB"
            for each in seen[-1][1].values()
        )
        print(f"{at_s:6.0f} s  {caller.tally.sent} sent  {ended} ended  {sizes}", flush=True)
    await asking
    caller.close()
    await asyncio.sleep(_FLUSHED_S)
    return seen


def slopes(seen: list[tuple[float, dict[int, Taken]]]) -> dict[str, float]:
    """Give MB a minute of each process over the second half, by least squares."""
    half = [each for each in seen if each[0] >= seen[-1][0] / 2]
    found = {}
    for pid in set.intersection(*(set(processes) for _, processes in half)):
        sizes = [processes[pid].resident_bytes / 1e6 for _, processes in half]
        found[f"{half[0][1][pid].name} {pid}"] = float(np.polyfit([at_s / 60 for at_s, _ in half], sizes, 1)[0])
    return found


def counted(server: Running) -> dict[str, float]:
    """Give the counters of records, those of lost ones by reason."""
    lines = server.ask("GET", "/metrics")[1].decode().splitlines()
    told = [line.rpartition(" ") for line in lines if line.startswith(("ferryman_records", "ferryman_watch_share"))]
    return {name: float(value) for name, _, value in told}


def lost(counters: Mapping[str, float]) -> float:
    """Give how many records were lost, all reasons together."""
    return sum(count for name, count in counters.items() if name.startswith("ferryman_records_lost_total"))


def main() -> int:
    """Soak, and set the sums beside each other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=1000.0, help="requests a second")
    parser.add_argument("--minutes", type=float, default=10.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = bundle_watched(Path(folder, "table"))
        bodies = [json.dumps({"instances": [row]}).encode() for row in make_rows(5000, seed=5)]
        kept = Path(folder, "kept")
        with running([bundle.path], monitor=kept, admin_port=0) as server:
            caller = Caller(
                server.host_and_port, [post("/v2/models/table/infer", body, "application/json") for body in bodies]
            )
            seen = asyncio.run(soak(server, caller, args.rate, 60 * args.minutes))
            counters = counted(server)
            server.stop()
        on_disk = counts(kept / "records", by=()).rows[0][0]
    tally, seconds = caller.tally, np.asarray(caller.tally.seconds)
    records, left_out = counters["ferryman_records_total"], counters["ferryman_records_left_out_total"]
    print(f"asked {tally.sent / seen[-1][0]:.1f} a second; answers by status {dict(tally.statuses)}")
    print("seconds to an answer: " + ", ".join(f"p{q:g} {np.quantile(seconds, q / 100):.4f}" for q in (50, 99, 99.9)))
    cpu = {pid: each.cpu_s - seen[0][1][pid].cpu_s for pid, each in seen[-1][1].items() if pid in seen[0][1]}
    used = ", ".join(f"{seen[-1][1][pid].name} {spent / tally.sent * 1e6:.1f} us" for pid, spent in cpu.items())
    print(f"CPU a request: {used}")
    found = slopes(seen)
    for name, slope in found.items():
        print(f"{name}: {slope:+.3f} MB a minute")
    print(
        f"{tally.ended} answered = {records:.0f} records + {left_out:.0f} not looked into + {lost(counters):.0f} lost"
    )
    print(f"{on_disk} records on the disk")
    are_equal = tally.sent == tally.ended == tally.statuses[200] == records + left_out + lost(counters)
    is_flat = max(found.values()) < _MOST_MB_A_MINUTE
    return 0 if are_equal and is_flat and on_disk == records else 1


if __name__ == "__main__":
    sys.exit(main())
