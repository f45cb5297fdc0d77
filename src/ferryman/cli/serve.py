"""`ferryman serve`: answer over HTTP."""

import argparse
import sys
from pathlib import Path

from ferryman import api
from ferryman.cli.options import add_json, count, port_number, positive
from ferryman.cli.output import write_json
from ferryman.cli.talk import say

EXAMPLE = "ferryman serve dist/street --port 8080"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the bundles, the address and the limits."""
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE", help="a bundle's folder or .ferry file")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=port_number, default=8080, help="port to listen on; 0: any free one")
    parser.add_argument("--threads", type=count, default=0, help="cores for one inference; 0: as the bundle was built")
    parser.add_argument(
        "--max-body-mb", type=positive, default=32.0, metavar="MB", help="largest request that is read (default: 32)"
    )
    parser.add_argument(
        "--max-queue", type=count, default=64, metavar="N", help="requests that may wait before others get 429 (64)"
    )
    parser.add_argument(
        "--drain-s", type=positive, default=30.0, metavar="S", help="seconds to finish what runs after SIGTERM (30)"
    )
    parser.add_argument(
        "--allow-broken", action="store_true", help="serve a bundle that does not keep its contract, too"
    )
    parser.add_argument("--access-log", action="store_true", help="write a line of JSON a request to stderr")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until stopped; ready only once the golden samples are answered right."""

    def tell(url: str) -> None:
        if args.json:
            write_json({"url": url})
            sys.stdout.flush()
        elif not args.quiet:
            say(f"ready: {url} (Ctrl-C stops it)")

    api.serve(
        args.bundles,
        host=args.host,
        port=args.port,
        threads=args.threads,
        max_queue=args.max_queue,
        drain_s=args.drain_s,
        access_log=args.access_log,
        allow_broken=args.allow_broken,
        max_body_mb=args.max_body_mb,
        on_ready=tell,
    )
    return 0
