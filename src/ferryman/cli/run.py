"""`ferryman run`: look through cameras and answer their frames, live."""

import argparse
import logging
import sys
from dataclasses import asdict
from pathlib import Path

from ferryman import api
from ferryman.cli.access_options import add_access, read_access
from ferryman.cli.options import add_json, duration, port_number
from ferryman.cli.output import write_json, write_text
from ferryman.cli.talk import say
from ferryman.core.log_lines import log_handler

EXAMPLE = "ferryman run ferryman.toml --port 8090"
_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_HEAD = "camera           state      frames  answered  dropped  failed   p50 ms   p99 ms"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the project, which cameras, and where to look."""
    parser.add_argument(
        "project", type=Path, nargs="?", default=Path(), metavar="PROJECT",
        help="ferryman.toml with [camera.NAME] sections, or its folder (.)",
    )  # fmt: skip
    parser.add_argument(
        "--camera", action="append", default=[], metavar="NAME", help="only this; may come several times"
    )
    parser.add_argument("--bundle", type=Path, metavar="BUNDLE", help="ask this bundle, whatever [pipeline] says")
    parser.add_argument("--host", default="127.0.0.1", help="where the live view listens (127.0.0.1)")
    parser.add_argument("--port", type=port_number, default=8090, help="its port; 0: any free one (8090)")
    parser.add_argument("--no-view", action="store_true", help="show nothing, listen nowhere")
    parser.add_argument("--for", dest="duration", type=duration, metavar="TIME", help="stop after 90s, 15m, 1h")
    parser.add_argument("--dry-run", action="store_true", help="check the file, show the cameras, open none")
    add_json(parser)
    add_access(parser)


def run(args: argparse.Namespace) -> int:
    """Run until every camera has ended, or Ctrl-C; --json gives a line a frame, and the figures last."""
    if args.dry_run:
        planned = api.plan_run(args.project, cameras=args.camera, bundle=args.bundle)
        lines = [
            f"{one['name']:<16} {one['kind']:<10} {one['policy']:<7} {one['source']}\n" for one in planned["cameras"]
        ]
        write_json(planned) if args.json else write_text(
            f"{planned['model']} asked {planned['asked']}\n" + "".join(lines)
        )
        return 0
    if not args.quiet:
        log = logging.getLogger("ferryman")
        log.setLevel(logging.INFO)
        log.addHandler(log_handler("text", text=_FORMAT))

    def ready(url: str) -> None:
        if not args.quiet:
            say(f"ready: {url or 'no view'} (Ctrl-C stops it)")

    def tell(told: api.Told) -> None:
        write_json(asdict(told))

    port = None if args.no_view else args.port
    figures = api.run(
        args.project, cameras=args.camera, bundle=args.bundle, host=args.host, port=port,
        duration_s=args.duration.total_seconds() if args.duration else None, access=read_access(args), ready=ready,
        tell=tell if args.json else None,
    )  # fmt: skip
    if args.json:
        write_json(figures)
    else:
        write_text("\n".join([_HEAD, *(_row(name, one) for name, one in figures["cameras"].items())]) + "\n")
    sys.stdout.flush()
    return 1 if any(one["state"] == "failed" for one in figures["cameras"].values()) else 0


def _row(name: str, one: dict[str, object]) -> str:
    ages = (f"{one[key]:.1f}" if isinstance(one[key], float) else "-" for key in ("age_p50_ms", "age_p99_ms"))
    counts = f"{one['frames']:>8} {one['answered']:>9} {one['dropped']:>8} {one['failed']:>7}"
    return f"{name:<16} {one['state']:<8} {counts} " + " ".join(f"{age:>8}" for age in ages)
