"""The options of `ferryman serve`, in groups, and the settings that they make."""

import argparse
from pathlib import Path

from ferryman.cli.options import add_json, count, port_number, positive, share
from ferryman.core.errors import UserError
from ferryman.server.settings import ServerSettings

_SETTINGS = (
    "host", "port", "threads", "instances", "processes", "max_batch", "max_queue", "request_s", "receive_s", "drain_s",
    "unready_s", "hang_s", "probe_s", "watch_s", "max_memory_mb", "max_worker_mb", "keys", "jwt", "tls_cert", "tls_key",
    "client_ca", "state", "access_log", "triton_metrics", "otlp", "trace_ratio", "allow_broken",
)  # fmt: skip


def add_serve_options(parser: argparse.ArgumentParser) -> None:
    """Take the bundles, the addresses, the sizes, the limits and who may call."""
    parser.add_argument(
        "bundles", nargs="+", type=Path, metavar="BUNDLE", help="a bundle (folder or .ferry), or a folder of bundles"
    )
    parser.add_argument("--allow-broken", action="store_true", help="serve bundles that break their contract, too")
    add_json(parser)
    _add_where(parser.add_argument_group("where"))
    _add_sizes(parser.add_argument_group("engines (default: as the bundle was tuned or built)"))
    _add_limits(parser.add_argument_group("limits"))
    _add_callers(parser.add_argument_group("who may call"))
    _add_watching(parser.add_argument_group("watching"))


def settings_of(args: argparse.Namespace) -> ServerSettings:
    """Make the settings; raises UserError for options that don't fit together."""
    admin = args.admin_port
    if admin == "next":
        admin_port = args.port + 1 if args.port else 0
        if admin_port > 65535:
            raise UserError("there is no port after 65535", hint="give --admin-port a number, or off")
    else:
        admin_port = None if admin == "off" else port_number(admin)
    chosen = {name: getattr(args, name) for name in _SETTINGS}
    return ServerSettings(
        admin_port=admin_port,
        max_body_bytes=round(args.max_body_mb * 1e6),
        max_in_flight_bytes=round(args.max_in_flight_mb * 1e6),
        cors=tuple(args.cors),
        **chosen,
    )


def _admin_port(text: str) -> str:
    if text not in ("next", "off"):
        port_number(text)
    return text


_Group = argparse._ArgumentGroup  # argparse has no public name for it


def _add_where(group: _Group) -> None:
    group.add_argument("--host", default="127.0.0.1", help="address to listen on, or unix:PATH (127.0.0.1)")
    group.add_argument("--port", type=port_number, default=8080, help="for HTTP and gRPC; 0: any free one (8080)")
    group.add_argument(
        "--admin-port", type=_admin_port, default="next", metavar="PORT",
        help="on loopback, to load, roll out and see the status: a number, off, or next, the one after --port (next)",
    )  # fmt: skip
    group.add_argument(
        "--state", type=Path, metavar="DIR", help="keeps active versions and rollouts (REPOSITORY/.ferryman)"
    )
    group.add_argument(
        "--watch-s", type=positive, default=0.0, metavar="S", help="look for new versions so often (never)"
    )


def _add_sizes(group: _Group) -> None:
    group.add_argument("--threads", type=count, default=0, metavar="N", help="cores for one call of the engine")
    group.add_argument(
        "--instances", type=count, default=0, metavar="N", help="calls of the engine at once in a process"
    )
    group.add_argument("--processes", type=count, default=0, metavar="N", help="processes for each model")
    group.add_argument("--max-batch", type=count, default=0, metavar="ROWS", help="rows that may share a call")


def _add_limits(group: _Group) -> None:
    group.add_argument("--max-body-mb", type=positive, default=32.0, metavar="MB", help="largest request (32)")
    group.add_argument(
        "--max-in-flight-mb",
        type=positive,
        default=256.0,
        metavar="MB",
        help="all requests in work; more get 429 (256)",
    )
    group.add_argument(
        "--max-queue", type=count, default=1024, metavar="N", help="requests that wait for a model; more get 429 (1024)"
    )
    group.add_argument("--request-s", type=positive, default=60.0, metavar="S", help="for an answer, or it is 504 (60)")
    group.add_argument("--receive-s", type=positive, default=60.0, metavar="S", help="for a body, or it is 408 (60)")
    group.add_argument(
        "--unready-s", type=positive, default=0.5, metavar="S",
        help="after SIGTERM, still take requests while load balancers notice (0.5)",
    )  # fmt: skip
    group.add_argument(
        "--drain-s", type=positive, default=30.0, metavar="S", help="then, to finish what was taken (30)"
    )
    group.add_argument(
        "--hang-s", type=positive, default=60.0, metavar="S", help="renew a worker that is stuck in a call so long (60)"
    )
    group.add_argument(
        "--max-memory-mb", type=count, default=0, metavar="MB", help="of all models; over it idle ones leave (no limit)"
    )
    group.add_argument(
        "--max-worker-mb", type=count, default=0, metavar="MB",
        help="renew a larger worker (twice its size after the load, and 256 MiB)",
    )  # fmt: skip


def _add_callers(group: _Group) -> None:
    group.add_argument("--keys", type=Path, metavar="FILE", help="API keys, as `ferryman keys` makes them")
    group.add_argument("--jwt", type=Path, metavar="FILE", help="TOML: issuer, audience and jwks of bearer tokens")
    group.add_argument("--tls-cert", type=Path, metavar="FILE", help="PEM certificate; read again when it changes")
    group.add_argument("--tls-key", type=Path, metavar="FILE", help="its PEM key")
    group.add_argument("--client-ca", type=Path, metavar="FILE", help="let in only clients with its certificates")
    group.add_argument(
        "--cors", action="append", default=[], metavar="ORIGIN", help="let a site's pages ask; more than once (none)"
    )


def _add_watching(group: _Group) -> None:
    group.add_argument(
        "--access-log",
        default="-",
        metavar="FILE",
        help="a JSON line for each request: a file, off, or - for stderr (-)",
    )
    group.add_argument(
        "--probe-s", type=positive, default=30.0, metavar="S", help="ask each worker a golden sample so often (30)"
    )
    group.add_argument("--triton-metrics", action="store_true", help="add the names nv_inference_* to /metrics")
    group.add_argument("--otlp", default="", metavar="URL", help="send traces there, by OTLP over HTTP (nowhere)")
    group.add_argument(
        "--trace-ratio", type=share, default=0.01, metavar="R", help="share of new traces that are sent (0.01)"
    )
