"""Load a server with real requests and count what becomes of each: for tuning and for benchmarks."""

from ferryman.client.load.latency import Histogram
from ferryman.client.load.loops import Address, Load, Tally, closed_loop, open_loop
from ferryman.client.load.messages import infer_request

__all__ = ["Address", "Histogram", "Load", "Tally", "closed_loop", "infer_request", "open_loop"]
