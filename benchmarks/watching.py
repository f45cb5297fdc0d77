"""What watching costs a server: CPU time a request with records and drift on, over that with `--no-watch`.

`python -m benchmarks.watching [--seconds N] [--detector BUNDLE]` prints a table. Both servers run at once and are asked
the same at the same steady rate, so that whatever else the machine does meets both; of all their processes (front,
workers, watch, zygote) the CPU time of each two seconds is compared, with an interval by bootstrap. `--twin` sets two
servers side by side that don't watch: how far off 1 that is, is the noise. Predicted before the first run: 1.03 at
most, by construction (`monitor.cost`).
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks._steady import Caller, Taken, post, taken
from tests.server.running import Running, running
from tests.server.watch.making import bundle_watched, make_rows

from ferryman import api
from ferryman.demo.run import make_project

_WINDOW_S = 2.0
_WARM_S = 20.0  # until the share of calls that are looked into has settled
_DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Compared:
    """Hold CPU milliseconds a request, on and off, their ratio with its 95 % interval, and where the time went."""

    on_ms: float
    off_ms: float
    ratio: float
    low: float
    high: float
    share: float
    by_process: dict[str, tuple[float, float]]


def compare(bundle: Path, requests: Sequence[bytes], rate: float, seconds: float, *, is_twin: bool) -> Compared:
    """Ask both servers at once."""
    with tempfile.TemporaryDirectory() as folder:
        settings: dict[str, Any] = {"monitor": Path(folder, "kept"), "admin_port": 0}  # of ServerSettings
        with (
            running([bundle], **({"watches": False} if is_twin else settings)) as watched,
            running([bundle], watches=False) as alone,
        ):
            windows = asyncio.run(_ask_both((watched, alone), requests, rate, seconds))
            metrics = watched.ask("GET", "/metrics")[1].decode()
    shares = [line.split()[1] for line in metrics.splitlines() if line.startswith("ferryman_watch_share ")]
    spent = np.asarray([[sum(part.values()) for part in pair] for pair in windows])
    draws = np.random.default_rng(0).integers(0, len(spent), (_DRAWS, len(spent)))
    ratios = spent[draws, 0].sum(axis=1) / spent[draws, 1].sum(axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    on, off = spent.sum(axis=0) / (len(spent) * _WINDOW_S * rate) * 1000
    return Compared(
        float(on), float(off), float(on / off), float(low), float(high), float(shares[0]) if shares else 0.0,
        {name: _each(windows, name, rate) for name in sorted({name for pair in windows for name in pair[0]})},
    )  # fmt: skip


async def _ask_both(
    servers: Sequence[Running], requests: Sequence[bytes], rate: float, seconds: float
) -> list[list[dict[str, float]]]:
    """Give the CPU seconds of each process by name, of both servers, window by window."""
    callers = [Caller(server.host_and_port, requests) for server in servers]
    asking = [asyncio.create_task(caller.ask(rate, _WARM_S + seconds + _WINDOW_S)) for caller in callers]
    await asyncio.sleep(_WARM_S)
    windows = []
    before = [taken(server.process.pid) for server in servers]
    for _ in range(int(seconds / _WINDOW_S)):
        await asyncio.sleep(_WINDOW_S)
        after = [taken(server.process.pid) for server in servers]
        windows.append([_spent(*pair) for pair in zip(before, after, strict=True)])
        before = after
    await asyncio.gather(*asking)
    for caller in callers:
        assert set(caller.tally.statuses) == {200}, caller.tally.statuses
        caller.close()
    return windows


def _spent(before: dict[int, Taken], after: dict[int, Taken]) -> dict[str, float]:
    spent: dict[str, float] = {}
    for pid, one in after.items():
        spent[one.name] = spent.get(one.name, 0.0) + one.cpu_s - (before[pid].cpu_s if pid in before else 0.0)
    return spent


def _each(windows: Sequence[Sequence[dict[str, float]]], name: str, rate: float) -> tuple[float, float]:
    asked = len(windows) * _WINDOW_S * rate
    on, off = (sum(pair[side].get(name, 0.0) for pair in windows) / asked * 1000 for side in (0, 1))
    return on, off


def _quiet(stage: str, *, done: int = 0, total: int = 0, note: str = "") -> None:
    """Say nothing of the build."""


def main() -> int:
    """Measure a table's model at two rates, and a detector of pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of each case")
    parser.add_argument("--rates", type=float, nargs="*", default=[100.0, 1000.0], help="of the table, requests/s")
    parser.add_argument("--detector", type=Path, help="a bundle of the demo's; built where none is given")
    parser.add_argument("--only-table", action="store_true", help="leave the detector out")
    parser.add_argument("--twin", action="store_true", help="two servers without a watch: the noise")
    args = parser.parse_args()
    print("| model | requests/s | CPU ms a request, watched | alone | ratio | 95 % | calls looked into |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        rows = make_rows(2000, seed=5)
        path = "/v2/models/table/infer"
        asked = [post(path, json.dumps({"instances": [row]}).encode(), "application/json") for row in rows]
        table = bundle_watched(Path(folder, "table")).path
        cases = [("table", table, asked, rate) for rate in args.rates]
        if not args.only_table:
            detector = args.detector or api.build(make_project(Path(folder, "demo"), _quiet)).bundle.path
            pictures = sorted(detector.parent.parent.glob("evaluation/images/*"))
            shown = [post("/v2/models/factory/infer", each.read_bytes(), "image/jpeg") for each in pictures]
            cases.append(("detector", detector, shown, 20.0))
        for name, bundle, requests, rate in cases:
            found = compare(bundle, requests, rate, args.seconds, is_twin=args.twin)
            figures = f"{found.on_ms:.3f} | {found.off_ms:.3f} | {found.ratio:.3f}"
            interval = f"{found.low:.3f} to {found.high:.3f}"
            print(f"| {name} | {rate:g} | {figures} | {interval} | {found.share:.3f} |", flush=True)
            for process, (on, off) in found.by_process.items():
                print(f"   {process}: {on:.4f} ms, alone {off:.4f}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
