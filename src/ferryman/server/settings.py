"""What a server is told: addresses, sizes, times, who may call."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

MB = 1024 * 1024


class ServeChoices(TypedDict, total=False):
    """Be the keywords of `ferryman.api.serve`: fields of ServerSettings."""

    host: str
    port: int
    admin_port: int | None
    threads: int
    instances: int
    processes: int
    max_batch: int
    max_queue: int
    request_s: float
    receive_s: float
    max_in_flight_bytes: int
    unready_s: float
    drain_s: float
    hang_s: float
    probe_s: float
    watch_s: float
    max_memory_mb: int
    max_worker_mb: int
    keys: Path | None
    jwt: Path | None
    tls_cert: Path | None
    tls_key: Path | None
    client_ca: Path | None
    cors: tuple[str, ...]
    state: Path | None
    access_log: str
    triton_metrics: bool
    otlp: str
    trace_ratio: float
    allow_broken: bool


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Say where and how to serve; 0 stands for "as the bundle was built or tuned", or for no limit.

    HTTP/1.1, WebSocket and gRPC share `port` (0 picks a free one); `admin_port` is a second one on loopback for what
    steers the server (None: none). `threads` are the cores of one call of the engine, `instances` how many calls run
    at once in a process, `processes` how many of those hold a model. Requests get 429 while `max_queue` others wait for
    their model, or while the bodies in work would come to more than `max_in_flight_bytes`. A request without a
    `timeout` gets 504 after `request_s`.

    On SIGTERM the server is unready at once, answers new requests for `unready_s` while load balancers notice, then
    finishes what runs within `drain_s`. `access_log` is a path, "-" for stderr or "off"; `otlp` an address that spans
    of `trace_ratio` of the requests are sent to. `allow_broken` serves bundles, too, whose proof says that their
    contract doesn't hold.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    admin_port: int | None = None
    threads: int = 0
    instances: int = 0
    processes: int = 0
    max_batch: int = 0
    max_queue: int = 1024
    request_s: float = 60.0
    max_body_bytes: int = 32 * MB
    max_in_flight_bytes: int = 256 * MB
    receive_s: float = 60.0
    unready_s: float = 0.5
    drain_s: float = 30.0
    probe_s: float = 30.0
    watch_s: float = 0.0
    hang_s: float = 60.0
    max_memory_mb: int = 0
    max_worker_mb: int = 0
    keys: Path | None = None
    jwt: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    client_ca: Path | None = None
    cors: tuple[str, ...] = ()
    state: Path | None = None
    access_log: str = "-"
    triton_metrics: bool = False
    otlp: str = ""
    trace_ratio: float = 0.01
    allow_broken: bool = False
