"""What a server is told: addresses, sizes, times, who may call."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TypedDict

from ferryman.core.runtime import available_cores
from ferryman.core.service_manager import HANDED

UNIX = "unix:"
_LOOPBACK = ("127.", "::1", "localhost", UNIX)
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
    client_rights: Path | None
    cors: tuple[str, ...]
    state: Path | None
    monitor: Path | None
    watches: bool
    access_log: str
    triton_metrics: bool
    otlp: str
    trace_ratio: float
    allow_broken: bool
    ready_with: str
    device_engine: str
    engines: Path | None
    engines_mb: int
    engine_build_s: float
    policy: Path | None
    require_signature: tuple[Path, ...]


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
    contract doesn't hold. `client_rights` is a TOML file of what the owners of client certificates may. The server is
    ready with "all" its models, or with "any".

    `device_engine` names what answers in place of a bundle's own engine once it is built on this device, within
    `engine_build_s`, and has answered the golden samples right: "off", "auto" (an accelerator's, where there is one)
    or a runtime. Engines are kept in `engines` (None: the user's cache), at most `engines_mb` of them.

    A platform may choose addresses for the one model of a server: `health_route` tells by 200 or 503 whether it is
    ready, `infer_route` asks it.

    Where it `watches`, records and what is known of drift and alerts are kept in `monitor` (None: nothing is kept).

    `policy` is a TOML file of whose signatures a bundle needs, `require_signature` are public keys beside those.
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
    client_rights: Path | None = None
    cors: tuple[str, ...] = ()
    state: Path | None = None
    monitor: Path | None = None
    watches: bool = True
    access_log: str = "-"
    triton_metrics: bool = False
    otlp: str = ""
    trace_ratio: float = 0.01
    allow_broken: bool = False
    ready_with: str = "all"
    device_engine: str = "off"
    engines: Path | None = None
    engines_mb: int = 8192
    engine_build_s: float = 3600.0
    health_route: str = ""
    infer_route: str = ""
    policy: Path | None = None
    require_signature: tuple[Path, ...] = ()


def doubts(settings: ServerSettings) -> list[str]:
    """Tell what works as it is asked for, and is seldom meant."""
    found = []
    sizes = {"--threads": settings.threads, "--instances": settings.instances, "--processes": settings.processes}
    wanted, cores = prod(max(size, 1) for size in sizes.values()), available_cores()
    if wanted > cores:
        asked = ", ".join(f"{option} {size}" for option, size in sizes.items() if size)
        found.append(f"{wanted} threads compute at once, on {cores} cores: they will wait for each other ({asked})")
    is_open = settings.keys is None and settings.jwt is None and settings.client_ca is None
    place = "the socket of systemd" if settings.host == HANDED else settings.host
    if is_open and not settings.host.startswith(_LOOPBACK):
        found.append(f"anyone who reaches {place} may ask: --keys, --jwt or --client-ca let in only some")
    knows_owners_only = settings.client_ca is not None and settings.keys is None and settings.jwt is None
    if knows_owners_only and settings.admin_port is not None:
        found.append(
            "every process of this machine may load and unload at the admin port, where nobody shows a certificate:"
            " --keys lets in only some, --admin-port off nobody"
        )
    return found
