"""`ferryman keys`: who may call a server."""

import argparse
from pathlib import Path

from ferryman.cli.options import add_json, count, duration, positive
from ferryman.cli.output import write_json, write_text
from ferryman.cli.talk import say
from ferryman.core.errors import ConfigError
from ferryman.server.data.gate.caller import SCOPES
from ferryman.server.data.gate.key_file import KeyEntry, KeyFile, locked, read_keys, write_keys
from ferryman.server.data.gate.keys import Made, Wish, add, revoke, rotate

EXAMPLE = "ferryman keys add web --models 'street-*' --rate 50 --file keys.json"
_ACTIONS = ("add", "list", "revoke", "rotate")
_DO = "add (prints the token, once), list, revoke (ends it now), rotate (prints a new token; the old one ends later)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take what to do with which key of which file."""
    parser.add_argument("action", choices=_ACTIONS, metavar="ACTION", help=_DO)
    parser.add_argument("name", nargs="?", default="", metavar="NAME", help="the key's name; revoke takes its id, too")
    parser.add_argument("--file", type=Path, required=True, metavar="FILE", help="the file of keys that a server reads")
    new = parser.add_argument_group("add")
    may = "what it may: infer (ask), read (see the pages), admin (load and unload) (infer read)"
    new.add_argument("--scopes", nargs="+", choices=SCOPES, default=["infer", "read"], metavar="SCOPE", help=may)
    new.add_argument("--models", nargs="+", default=["*"], metavar="PATTERN", help="models that it may ask (*)")
    new.add_argument("--rate", type=positive, metavar="N", help="requests a second (no limit)")
    new.add_argument("--burst", type=count, metavar="N", help="requests at once, with --rate (those of one second)")
    new.add_argument("--expires", type=duration, metavar="TIME", help="good for so long: 90d, 12h (for ever)")
    old = parser.add_argument_group("rotate")
    old.add_argument("--grace", type=duration, default="1h", metavar="TIME", help="the old token's last time (1h)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Change the file in one step; a server that reads it follows within seconds."""
    if args.action == "list":
        return _list(read_keys(args.file), as_json=args.json)
    if not args.name:
        raise ConfigError(f"{args.action} which key?", hint=f"ferryman keys {args.action} NAME --file FILE")
    with locked(args.file):
        file = KeyFile() if args.action == "add" and not args.file.exists() else read_keys(args.file)
        if args.action == "revoke":
            kept, gone = revoke(file, args.name)
            write_keys(args.file, kept)
            told: dict[str, object] = {"revoked": [_told(key) for key in gone]}
        else:
            made = _make(file, args)
            write_keys(args.file, made.file)
            told = {**_told(made.entry), "token": made.token}
    if args.json:
        write_json(told)
    elif "token" in told:
        write_text(f"{told['token']}\n")
        if not args.quiet:
            say(f"the token of '{told['name']}', shown this once: only its digest is kept")
    return 0


def _make(file: KeyFile, args: argparse.Namespace) -> Made:
    if args.action == "rotate":
        return rotate(file, args.name, grace=args.grace)
    return add(file, Wish(args.name, tuple(args.scopes), tuple(args.models), args.rate, args.burst, args.expires))


def _list(file: KeyFile, *, as_json: bool) -> int:
    if as_json:
        write_json({"keys": [_told(key) for key in file.keys]})
        return 0
    for key in file.keys:
        ends = "expired" if key.has_expired() else f"until {key.expires:%Y-%m-%d %H:%M}" if key.expires else "for ever"
        rate = f"  {key.rate_per_s:g}/s" if key.rate_per_s else ""
        write_text(f"{key.name}  {key.id}  {','.join(key.scopes)}  {' '.join(key.models)}{rate}  {ends}\n")
    return 0


def _told(key: KeyEntry) -> dict[str, object]:
    return key.model_dump(mode="json", exclude={"salt", "sha256"})
