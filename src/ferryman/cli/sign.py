"""`ferryman sign`: vouch for a bundle or an image."""

import argparse
from dataclasses import asdict
from pathlib import Path

from ferryman import api
from ferryman.cli.options import add_json
from ferryman.cli.output import write_json, write_text
from ferryman.cli.signing_options import add_builder, add_place, passphrase_for, place_of
from ferryman.cli.talk import say
from ferryman.core.errors import ConfigError
from ferryman.supply.keys import PASSPHRASE, short
from ferryman.supply.signing import Wish

EXAMPLE = "ferryman sign --new-key release && ferryman sign dist/street --key release.pem"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take what is signed, and by whom."""
    parser.add_argument(
        "target", nargs="?", metavar="TARGET", help="a bundle (folder or .ferry), or an image: HOST/NAME@sha256:..."
    )
    parser.add_argument("--key", type=Path, metavar="KEY.pem", help="the private key to sign with")
    parser.add_argument(
        "--bare", action="store_true", help="the signature alone: no bill of materials and no provenance beside it"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be signed, and with which key")
    add_builder(parser)
    add_place(parser)
    make = parser.add_argument_group("keys")
    make.add_argument("--new-key", type=Path, metavar="NAME", help="make one (P-256): NAME.pem and NAME.pub")
    make.add_argument("--encrypt", action="store_true", help="with a passphrase, asked for or $FERRYMAN_KEY_PASSPHRASE")
    make.add_argument(
        "--keyless", action="store_true", help="an image, by who you are: with cosign, over the network (not bundles)"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Make a key, or sign."""
    if args.new_key:
        return _make(args)
    if args.keyless and (args.key or args.dry_run):
        raise ConfigError("--keyless takes neither --key nor --dry-run", hint="cosign signs at once, with its own key")
    if not args.target or not (args.key or args.keyless):
        raise ConfigError(
            "sign what, and with which key?" if not args.target else f"with which key is {args.target} signed?",
            hint="ferryman sign TARGET --key KEY.pem; --new-key NAME makes a key",
        )
    if args.keyless:
        signed = api.sign_keyless(args.target)
    else:
        wish = Wish(bare=args.bare, builder=args.builder, dry_run=args.dry_run)
        signed = api.sign(args.target, args.key, passphrase=passphrase_for(args.key), wish=wish, place=place_of(args))
    for warning in signed.warnings if not args.quiet else ():
        say(warning, label="warning", style="yellow")
    if args.json:
        write_json({**asdict(signed), "dry_run": args.dry_run})
    else:
        would = "would write " if args.dry_run and signed.written else ""
        what = ", ".join(signed.written) or "it was signed already"
        write_text(f"{signed.target}\n  key {short(signed.key)}\n  {would}{what}\n")
    return 0


def _make(args: argparse.Namespace) -> int:
    if args.target or args.key or args.keyless or args.dry_run:
        raise ConfigError("--new-key makes a key, and nothing else", hint="ferryman sign --new-key NAME; then sign")
    if not (passphrase := passphrase_for(None) if args.encrypt else None) and args.encrypt:
        raise ConfigError("with which passphrase is the key encrypted?", hint=f"set {PASSPHRASE}")
    private, public = api.make_key(args.new_key, passphrase=passphrase)
    if args.json:
        write_json({"private": private, "public": public})
    else:
        write_text(f"{private}\n{public}\n")
    if not args.quiet:
        say(f"keep {private.name} to yourself; {public.name} is for those who check")
    return 0
