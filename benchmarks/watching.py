"""What watching costs a server: CPU time a request with records and drift on, over that with `--no-watch`.

`python -m benchmarks.watching [--requests N]` prints a table. Both servers run at once, and get blocks of the same
requests in turns; CPU time is that of all their processes, which a busy machine hardly changes. Predicted before the
first run: 1.03 by construction (`monitor.cost`), 1.01 for the detector, 1.03 for the table, where a request costs so
little that only some are looked into.
"""

import argparse
import http.client
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.server.running import Running, running
from tests.server.watch.making import bundle_watched, make_rows

from ferryman import api
from ferryman.demo.run import make_project
from ferryman.server.data.signals.processes import tree

_BLOCKS = 12
_WARM = 3


class Caller:
    """Hold one connection to a server, and what its processes have taken."""

    def __init__(self, server: Running, model: str) -> None:
        self._connection = http.client.HTTPConnection(*server.host_and_port, timeout=60)
        self._path = f"/v2/models/{model}/infer"
        self._pid = server.process.pid

    def block(self, bodies: Sequence[bytes], kind: str) -> float:
        """Ask all, one after the other; gives the CPU seconds a request, the watch's work afterwards included."""
        before = tree(self._pid).cpu_s
        for body in bodies:
            self._connection.request("POST", self._path, body, {"Content-Type": kind})
            answer = self._connection.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()
        time.sleep(1.2)
        return (tree(self._pid).cpu_s - before) / len(bodies)


def compare(bundle: Path, model: str, bodies: Sequence[bytes], kind: str) -> dict[str, float]:
    """Give the medians of CPU milliseconds a request, on and off, and of the ratios of neighbouring blocks."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running([bundle], monitor=Path(folder, "kept"), admin_port=0) as watched,
        running([bundle], watches=False) as alone,
    ):
        on, off = Caller(watched, model), Caller(alone, model)
        pairs = []
        for number in range(_BLOCKS + _WARM):
            turn = (on.block(bodies, kind), off.block(bodies, kind)) if number % 2 else None
            pair = turn or tuple(reversed((off.block(bodies, kind), on.block(bodies, kind))))
            if number >= _WARM:
                pairs.append(pair)
            print(f"   {model}: block {number + 1} of {_BLOCKS + _WARM}", file=sys.stderr, flush=True)
        share = watched.ask("GET", "/metrics")[1].decode()
    looked = next(line for line in share.splitlines() if line.startswith("ferryman_watch_share ")).split()[1]
    return {
        "on_ms": statistics.median(first for first, _ in pairs) * 1000,
        "off_ms": statistics.median(second for _, second in pairs) * 1000,
        "ratio": sum(first for first, _ in pairs) / sum(second for _, second in pairs),
        "share": float(looked),
    }


def _quiet(stage: str, *, done: int = 0, total: int = 0, note: str = "") -> None:
    """Say nothing of the build."""


def main() -> int:
    """Measure a detector of pictures and a table's model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=400, help="of a block, for the detector; 5 times as many rows")
    parser.add_argument("--detector", type=Path, help="a bundle of the demo's; built where none is given")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        detector = args.detector or api.build(make_project(Path(folder, "demo"), _quiet)).bundle.path
        pictures = sorted((args.detector or detector).parent.parent.glob("evaluation/images/*"))
        bodies = [pictures[number % len(pictures)].read_bytes() for number in range(args.requests)]
        found["detector"] = compare(detector, "factory", bodies, "image/jpeg")
        table = bundle_watched(Path(folder, "table")).path
        rows = [json.dumps({"instances": [row]}).encode() for row in make_rows(5 * args.requests, seed=5)]
        found["table"] = compare(table, "table", rows, "application/json")
    print("| model | CPU ms a request, watched | alone | ratio | calls looked into |")
    print("|---|---|---|---|---|")
    for name, each in found.items():
        print(f"| {name} | {each['on_ms']:.3f} | {each['off_ms']:.3f} | {each['ratio']:.3f} | {each['share']:.3f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
