"""`ferryman serve`: answer over HTTP and gRPC."""

import argparse
import logging
import sys

from ferryman.cli.output import write_json
from ferryman.cli.serve_options import add_serve_options, settings_of
from ferryman.cli.talk import say
from ferryman.server.app import serve

EXAMPLE = "ferryman serve dist/street --port 8080"

add_arguments = add_serve_options


def run(args: argparse.Namespace) -> int:
    """Serve until stopped; ready only once the golden samples are answered right."""

    def tell(url: str, admin_url: str) -> None:
        if args.json:
            write_json({"url": url, "admin_url": admin_url or None})
            sys.stdout.flush()
        elif not args.quiet:
            admin = f"; admin: {admin_url}" if admin_url else ""
            say(f"ready: {url} (HTTP and gRPC; Ctrl-C stops it{admin})")

    if not args.quiet:
        _log_on_stderr()
    serve(args.bundles, settings_of(args), tell)
    return 0


def _log_on_stderr() -> None:
    """Tell what happens to models and settings while the server runs."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger("ferryman")
    log.setLevel(logging.INFO)
    log.addHandler(handler)
