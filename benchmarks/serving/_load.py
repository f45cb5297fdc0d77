"""Load a server from the second core: closed loop, a fixed number of requests, every one of them logged."""

import math
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving._asks import Ask
from benchmarks.serving._theory import percentile
from benchmarks.serving._tree import Tree

LOAD_CORE = "1"
_WARM_S = 0.4
_PATIENCE = 12  # times the seconds asked for: a server this much slower than its own warm-up is given up
_DATA = re.compile(r"traffic: .*\((\d+)\) data")


@dataclass(frozen=True, slots=True)
class Load:
    """Name a kind of load: what is asked (see `_asks`), over how many connections, and its share of the time."""

    name: str
    kind: str
    connections: int
    share: float
    title: str


LOADS = {
    load.name: load
    for load in (
        Load("T", "T", 128, 1.0, "T: 30-64-2 MLP, JSON, 128 connections"),
        Load("T1", "T", 1, 0.3, "T1: the same, one connection: a request alone"),
        Load("Tgrpc", "Tgrpc", 32, 1.0, "Tgrpc: T over gRPC, 32 connections, one call at a time on each"),
        Load("M", "M", 8, 1.0, "M: MobileNetV2 224, 602 KB of float32 in, raw, 8 connections"),
        Load("Mjson", "Mjson", 8, 0.7, "Mjson: the same as JSON, 8 connections"),
        Load("D", "D", 4, 1.0, "D: JPEG of 1280 x 720 in, boxes out (YOLOv8n's layout, 640), 4 connections"),
    )
}


@dataclass(frozen=True, slots=True)
class Cell:
    """Hold what one load of one server gave. `cpu_us` is the whole tree's per answered request."""

    requests: int
    failed: int
    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    core_share: float  # how much of its core the server got


def measure(load: Load, ask: Ask, tree: Tree, *, port: int, seconds: float, answer_bytes: int) -> Cell:
    """Warm up, then load; raises RuntimeError where nothing was answered.

    `answer_bytes` is the length of a right answer. It tells good from bad where the status can't: gRPC says 200 to a
    call that fails, and h2load reads none (0) from a status line without words, as TorchServe writes it.
    """
    with tempfile.TemporaryDirectory() as folder:
        bench = _H2load(ask, load.connections, port, Path(folder))
        rate = bench.warm(_WARM_S)
        count = max(load.connections, math.ceil(rate * seconds * load.share / load.connections) * load.connections)
        cpu_before, start = tree.cpu_s(), time.monotonic()
        rows, data_bytes = bench.run(count, timeout_s=_PATIENCE * seconds + 60)
        wall_s, cpu_s = time.monotonic() - start, tree.cpu_s() - cpu_before
    good = [took for _, status, took in rows if status in (200, 0)]
    is_sure = not ask.is_grpc and all(status for _, status, _ in rows)
    if not good:
        raise RuntimeError(f"no right answer to {len(rows)} requests of {load.name}; {tree.last_words(200)}")
    failed = count - len(good)
    if not is_sure and data_bytes != answer_bytes * len(good):
        failed += max(1, abs(len(good) - data_bytes // answer_bytes))
    return Cell(
        requests=count,
        failed=failed,
        rate=_steady_rate(rows),
        p50_ms=percentile(good, 0.50) / 1e3,
        p99_ms=percentile(good, 0.99) / 1e3,
        cpu_us=cpu_s / len(good) * 1e6,
        core_share=cpu_s / wall_s,
    )


class _H2load:
    def __init__(self, ask: Ask, connections: int, port: int, folder: Path) -> None:
        self._connections = connections
        self._log = folder / "log"
        body = folder / "body"
        body.write_bytes(ask.body)
        protocol = ["-m", "1"] if ask.is_grpc else ["--h1"]
        headers = [part for name, value in ask.headers.items() for part in ("-H", f"{name}: {value}")]
        self._command = ["taskset", "-c", LOAD_CORE, "h2load", *protocol, *headers, "-d", str(body), "-t", "1"]
        self._command += ["-c", str(connections), "--log-file", str(self._log)]
        self._url = f"http://127.0.0.1:{port}{ask.path}"

    def run(self, count: int, *, timeout_s: float) -> tuple[list[tuple[int, int, int]], int]:
        """Ask so many times; gives (start in us, status, us it took) of each, and the bytes of their bodies."""
        self._log.unlink(missing_ok=True)
        command = [*self._command, "-n", str(count), self._url]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{count} requests took more than {timeout_s:.0f} s") from None
        lines = self._log.read_text(encoding="utf-8").splitlines()
        parts = [line.split("\t") for line in lines]
        found = _DATA.search(done.stdout)
        rows = [(int(start), int(status), int(took)) for start, status, took in parts]
        return rows, int(found[1]) if found else 0

    def warm(self, seconds: float) -> float:
        """Ask for about so long; gives the rate that was reached."""
        count = 2 * self._connections
        while True:
            start = time.monotonic()
            rows, _ = self.run(count, timeout_s=120)
            took = time.monotonic() - start
            rate = _steady_rate(rows) if len(rows) >= 20 * self._connections else count / took
            if took >= seconds / 2:
                return rate
            # No more than eight times as many at once: the first few are no measure.
            count = self._connections * math.ceil(min(rate * seconds, 8 * count) / self._connections)


def _steady_rate(rows: list[tuple[int, int, int]]) -> float:
    """Give answers per second between the first and the last tenth, where every connection is busy."""
    ends = sorted(start + took for start, _, took in rows)
    edge = len(ends) // 10
    inner = ends[edge : len(ends) - edge]
    span_us = inner[-1] - inner[0]
    return (len(inner) - 1) / span_us * 1e6 if span_us else math.nan
