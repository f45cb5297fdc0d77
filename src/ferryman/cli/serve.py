"""`ferryman serve`: answer over HTTP and gRPC."""

import argparse
import logging
import os
import sys

from ferryman.cli.output import write_json
from ferryman.cli.serve_environment import find_bundles, take_environment
from ferryman.cli.serve_options import add_serve_options, settings_of
from ferryman.cli.talk import say
from ferryman.core.log_lines import VARIABLE, log_handler
from ferryman.server.app import serve

EXAMPLE = "ferryman serve dist/street --port 8080"

_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_log = logging.getLogger("ferryman.server")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the options, and what the environment says of them."""
    add_serve_options(parser)
    take_environment(parser, os.environ)


def run(args: argparse.Namespace) -> int:
    """Serve until stopped; ready only once the golden samples are answered right."""

    def tell(url: str, admin_url: str) -> None:
        admin = f"; admin: {admin_url}" if admin_url else ""
        if args.json:
            write_json({"url": url, "admin_url": admin_url or None})
            sys.stdout.flush()
        elif args.log == "json":
            _log.info("ready: %s (HTTP and gRPC%s)", url, admin)
        elif not args.quiet:
            say(f"ready: {url} (HTTP and gRPC; Ctrl-C stops it{admin})")

    settings = settings_of(args)
    _log_on_stderr(args.log, is_quiet=args.quiet)
    serve(args.bundles or find_bundles(os.environ), settings, tell)
    return 0


def _log_on_stderr(form: str, *, is_quiet: bool) -> None:
    """Tell what happens to models and settings while the server runs."""
    os.environ[VARIABLE] = form  # the workers read it
    if is_quiet:
        return
    log = logging.getLogger("ferryman")
    log.setLevel(logging.INFO)
    log.addHandler(log_handler(form, text=_FORMAT))
