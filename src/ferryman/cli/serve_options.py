"""The options of `ferryman serve`, in groups, and the settings that they make."""

import argparse
from pathlib import Path

from ferryman.cli.options import add_json, at_least_one, count, port_number, positive, share
from ferryman.cli.policy_options import add_policy
from ferryman.core.errors import UserError
from ferryman.core.log_lines import FORMS
from ferryman.server.settings import UNIX, ServerSettings

_SETTINGS = (
    "host", "port", "threads", "instances", "processes", "max_batch", "max_queue", "request_s", "receive_s", "drain_s",
    "unready_s", "hang_s", "probe_s", "watch_s", "max_memory_mb", "max_worker_mb", "keys", "jwt", "tls_cert", "tls_key",
    "client_ca", "client_rights", "state", "monitor", "watches", "access_log", "triton_metrics", "otlp", "trace_ratio",
    "allow_broken", "ready_with", "device_engine", "engines", "engines_mb", "engine_build_s", "policy", "health_route",
    "infer_route",
)  # fmt: skip


def add_serve_options(parser: argparse.ArgumentParser) -> None:
    """Take the bundles, the addresses, the sizes, the limits and who may call."""
    parser.add_argument(
        "bundles", nargs="*", type=Path, metavar="BUNDLE",
        help="a bundle (folder or .ferry), or a folder of bundles (what the platform mounts, or FERRYMAN_BUNDLE)",
    )  # fmt: skip
    parser.add_argument("--allow-broken", action="store_true", help="serve bundles that break their contract, too")
    add_json(parser)
    _add_where(parser.add_argument_group("where"))
    _add_sizes(parser.add_argument_group("engines (default: as the bundle was tuned or built)"))
    _add_device(parser.add_argument_group("engines that are built on this device"))
    _add_limits(parser.add_argument_group("limits"))
    _add_callers(parser.add_argument_group("who may call"))
    add_policy(parser.add_argument_group("what is accepted"))
    _add_watching(parser.add_argument_group("watching"))


def settings_of(args: argparse.Namespace) -> ServerSettings:
    """Make the settings; raises UserError for options that don't fit together."""
    admin = args.admin_port
    if admin == "next" and args.host.startswith(UNIX):
        admin_port = None  # who serves on a path wants no port to appear beside it
    elif admin == "next":
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
        require_signature=tuple(args.require_signature),
        **chosen,
    )


def _admin_port(text: str) -> str:
    if text not in ("next", "off"):
        port_number(text)
    return text


_Group = argparse._ArgumentGroup  # argparse has no public name for it


def _add_where(group: _Group) -> None:
    group.add_argument(
        "--host", default="127.0.0.1", help="address, unix:PATH, or systemd for a socket that it hands over (127.0.0.1)"
    )
    group.add_argument("--port", type=port_number, default=8080, help="for HTTP and gRPC; 0: any free one (8080)")
    group.add_argument(
        "--admin-port", type=_admin_port, default="next", metavar="PORT",
        help="on loopback, to load, roll out and see the status: a number, off, or next, the one after --port "
        "(next; off with unix:PATH)",
    )  # fmt: skip
    group.add_argument(
        "--health-route",
        default="",
        metavar="PATH",
        help="one more address that tells by 200 or 503 whether it is ready",
    )
    group.add_argument("--infer-route", default="", metavar="PATH", help="one more address of the only model")
    group.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="where active versions and rollouts are remembered (REPOSITORY/.ferryman)",
    )
    group.add_argument(
        "--watch-s", type=positive, default=0.0, metavar="S", help="look for new versions every S seconds (never)"
    )


def _add_sizes(group: _Group) -> None:
    group.add_argument("--threads", type=at_least_one, default=0, metavar="N", help="threads of one call of the engine")
    group.add_argument(
        "--instances", type=at_least_one, default=0, metavar="N", help="calls of the engine at once, in each process"
    )
    group.add_argument("--processes", type=at_least_one, default=0, metavar="N", help="processes for each model")
    group.add_argument("--max-batch", type=at_least_one, default=0, metavar="ROWS", help="rows that may share a call")


def _add_device(group: _Group) -> None:
    group.add_argument(
        "--device-engine", default="off", metavar="NAME",
        help="build it beside what serves, and switch to it where it answers the golden samples right: tensorrt, "
        "openvino, auto (an accelerator's, where there is one) or off (off)",
    )  # fmt: skip
    group.add_argument("--engines", type=Path, metavar="DIR", help="where they are kept (the user's cache)")
    group.add_argument(
        "--engines-mb", type=count, default=8192, metavar="MB", help="the most to keep there; 0: no limit (8192)"
    )
    group.add_argument(
        "--engine-build-s", type=positive, default=3600.0, metavar="S", help="longest time to build one (3600)"
    )


def _add_limits(group: _Group) -> None:
    group.add_argument(
        "--max-body-mb",
        type=positive,
        default=32.0,
        metavar="MB",
        help="largest body of a request; a larger one gets 413 (32)",
    )
    group.add_argument(
        "--max-in-flight-mb",
        type=positive,
        default=256.0,
        metavar="MB",
        help="all bodies in work together; more get 429 (256)",
    )
    group.add_argument(
        "--max-queue",
        type=count,
        default=1024,
        metavar="N",
        help="requests that may wait for a model; more get 429 (1024)",
    )
    group.add_argument(
        "--request-s", type=positive, default=60.0, metavar="S", help="longest wait for an answer, then 504 (60)"
    )
    group.add_argument(
        "--receive-s", type=positive, default=60.0, metavar="S", help="longest wait for a request's body, then 408 (60)"
    )
    group.add_argument(
        "--unready-s", type=positive, default=0.5, metavar="S",
        help="after SIGTERM, still take requests while load balancers notice (0.5)",
    )  # fmt: skip
    group.add_argument(
        "--drain-s", type=positive, default=30.0, metavar="S", help="after that, the time to finish what was taken (30)"
    )
    group.add_argument(
        "--hang-s", type=positive, default=60.0, metavar="S", help="renew a worker that is stuck in a call so long (60)"
    )
    group.add_argument(
        "--max-memory-mb",
        type=at_least_one,
        default=0,
        metavar="MB",
        help="MiB (PSS) of all workers together, not counting the server and the process they are forked from; over "
        "it, the model that is idle longest leaves, but none at work or in two versions (no limit)",
    )
    group.add_argument(
        "--max-worker-mb", type=at_least_one, default=0, metavar="MB",
        help="renew a larger worker (twice its size after the load, and 256 MiB)",
    )  # fmt: skip


def _add_callers(group: _Group) -> None:
    group.add_argument("--keys", type=Path, metavar="FILE", help="API keys, as `ferryman keys` makes them")
    group.add_argument("--jwt", type=Path, metavar="FILE", help="TOML: issuer, audience and jwks of bearer tokens")
    group.add_argument("--tls-cert", type=Path, metavar="FILE", help="PEM certificate; read again when it changes")
    group.add_argument("--tls-key", type=Path, metavar="FILE", help="the PEM key of --tls-cert")
    group.add_argument(
        "--client-ca",
        type=Path,
        metavar="FILE",
        help="PEM: let in only clients with a certificate of these authorities",
    )
    group.add_argument(
        "--client-rights", type=Path, metavar="FILE",
        help="TOML: what the owners of those certificates may (infer and read, every model)",
    )  # fmt: skip
    group.add_argument(
        "--cors",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="let the pages of this site ask; may be given several times (none)",
    )


def _add_watching(group: _Group) -> None:
    group.add_argument(
        "--ready-with", choices=("all", "any"), default="all",
        help="the models that must answer for /v2/health/ready: all of them, as the protocol has it, or any (all)",
    )  # fmt: skip
    group.add_argument(
        "--access-log",
        default="-",
        metavar="FILE",
        help="a JSON line for each request: a file, off, or - for stderr (-)",
    )
    group.add_argument(
        "--probe-s",
        type=positive,
        default=30.0,
        metavar="S",
        help="ask each worker a golden sample every S seconds (30)",
    )
    group.add_argument(
        "--monitor",
        type=Path,
        metavar="DIR",
        help="keep records, drift and alerts there (nowhere)",
    )
    group.add_argument(
        "--no-watch", action="store_false", dest="watches", help="look into no requests: no drift, records or alerts"
    )
    group.add_argument("--log", choices=FORMS, default="text", help="how its own lines look on stderr (text)")
    group.add_argument("--triton-metrics", action="store_true", help="add the names nv_inference_* to /metrics")
    group.add_argument("--otlp", default="", metavar="URL", help="send traces there, by OTLP over HTTP (nowhere)")
    group.add_argument(
        "--trace-ratio", type=share, default=0.01, metavar="R", help="share of new traces that are sent (0.01)"
    )
