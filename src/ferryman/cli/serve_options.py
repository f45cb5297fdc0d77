"""The options of `ferryman serve`, in groups, and the settings that they make."""

import argparse
from pathlib import Path

from ferryman.cli.options import add_json, count, port_number, positive, share
from ferryman.core.errors import UserError
from ferryman.server.settings import ServerSettings

_SETTINGS = (
    "host", "port", "threads", "instances", "processes", "max_batch", "max_queue", "request_s", "drain_s", "unready_s",
    "hang_s", "probe_s", "watch_s", "max_memory_mb", "max_worker_mb", "keys", "jwt", "tls_cert", "tls_key", "client_ca",
    "state", "access_log", "triton_metrics", "otlp", "trace_ratio", "allow_broken",
)  # fmt: skip


def add_serve_options(parser: argparse.ArgumentParser) -> None:
    """Take the bundles, the addresses, the sizes, the limits and who may call."""
    parser.add_argument(
        "bundles", nargs="+", type=Path, metavar="BUNDLE", help="a bundle (folder or .ferry), or a folder of bundles"
    )
    parser.add_argument("--allow-broken", action="store_true", help="serve a bundle that breaks its contract, too")
    add_json(parser)
    _add_where(parser.add_argument_group("where"))
    _add_sizes(parser.add_argument_group("engines (0: as the bundle was built or tuned)"))
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
        cors=tuple(args.cors),
        **chosen,
    )


def _admin_port(text: str) -> str:
    if text not in ("next", "off"):
        port_number(text)
    return text


_Group = argparse._ArgumentGroup  # argparse has no public name for it


def _add_where(group: _Group) -> None:
    group.add_argument("--host", default="127.0.0.1", help="address to listen on, or unix:PATH (default: 127.0.0.1)")
    group.add_argument("--port", type=port_number, default=8080, help="HTTP and gRPC; 0: any free port (8080)")
    group.add_argument(
        "--admin-port", type=_admin_port, default="next", metavar="PORT",
        help="for load, rollout and status, on loopback: a number, off, or next (the one after --port; default)",
    )  # fmt: skip
    group.add_argument("--state", type=Path, metavar="DIR", help="remembers choices (default: REPOSITORY/.ferryman)")
    group.add_argument(
        "--watch-s", type=positive, default=0.0, metavar="S", help="look for new versions each S seconds (never)"
    )


def _add_sizes(group: _Group) -> None:
    group.add_argument("--threads", type=count, default=0, help="cores for one call of the engine")
    group.add_argument("--instances", type=count, default=0, help="calls of the engine at once in a process")
    group.add_argument("--processes", type=count, default=0, help="processes for each model")
    group.add_argument("--max-batch", type=count, default=0, metavar="ROWS", help="rows that may share a call")


def _add_limits(group: _Group) -> None:
    group.add_argument("--max-body-mb", type=positive, default=32.0, metavar="MB", help="largest request (32)")
    group.add_argument("--max-queue", type=count, default=1024, metavar="N", help="more that wait get 429 (1024)")
    group.add_argument("--request-s", type=positive, default=60.0, metavar="S", help="later answers are 504 (60)")
    group.add_argument("--drain-s", type=positive, default=30.0, metavar="S", help="to finish after SIGTERM (30)")
    group.add_argument("--unready-s", type=positive, default=0.5, metavar="S", help="unready before draining (0.5)")
    group.add_argument("--hang-s", type=positive, default=60.0, metavar="S", help="renew a worker stuck so long (60)")
    group.add_argument("--max-memory-mb", type=count, default=0, metavar="MB", help="evict idle models over it (never)")
    group.add_argument("--max-worker-mb", type=count, default=0, metavar="MB", help="renew a larger worker (never)")


def _add_callers(group: _Group) -> None:
    group.add_argument("--keys", type=Path, metavar="FILE", help="API keys; `ferryman keys` makes them")
    group.add_argument("--jwt", type=Path, metavar="FILE", help="TOML: issuer, audience and jwks of bearer tokens")
    group.add_argument("--tls-cert", type=Path, metavar="FILE", help="PEM certificate; read again when it changes")
    group.add_argument("--tls-key", type=Path, metavar="FILE", help="its PEM key")
    group.add_argument("--client-ca", type=Path, metavar="FILE", help="let in only clients with its certificates")
    group.add_argument("--cors", action="append", default=[], metavar="ORIGIN", help="let a site's pages ask (none)")


def _add_watching(group: _Group) -> None:
    group.add_argument(
        "--access-log",
        nargs="?",
        default="-",
        const="-",
        metavar="FILE",
        help="JSON lines: a file, - (stderr) or off (-)",
    )
    group.add_argument(
        "--probe-s", type=positive, default=30.0, metavar="S", help="ask a golden sample each S seconds (30)"
    )
    group.add_argument("--triton-metrics", action="store_true", help="add the names nv_inference_* to /metrics")
    group.add_argument("--otlp", default="", metavar="URL", help="send traces there, by OTLP over HTTP")
    group.add_argument("--trace-ratio", type=share, default=0.01, metavar="R", help="of new traces, 0 to 1 (0.01)")
