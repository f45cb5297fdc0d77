"""`ferryman accept`: check who vouches for a bundle or an image."""

import argparse

from ferryman import api
from ferryman.cli.options import add_json
from ferryman.cli.output import write_json, write_text
from ferryman.cli.policy_options import add_policy
from ferryman.cli.signing_options import add_place, place_of
from ferryman.core.errors import ConfigError
from ferryman.supply.keys import short

EXAMPLE = "ferryman accept dist/street --require-signature release.pub"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take what is checked, and what is asked for."""
    parser.add_argument(
        "target", metavar="TARGET", help="a bundle (folder or .ferry), or an image: HOST/NAME:TAG, HOST/NAME@sha256:..."
    )
    add_policy(parser.add_argument_group("what is accepted"))
    keyless = parser.add_argument_group("images that were signed without a key (with cosign, over the network)")
    keyless.add_argument("--identity", default="", metavar="WHO", help="who signed: an e-mail address, a workflow")
    keyless.add_argument("--issuer", default="", metavar="URL", help="who vouches for that")
    add_place(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Give 0 where it is accepted; an error that says which file, and whose key, where it is not."""
    if bool(args.identity) != bool(args.issuer):
        raise ConfigError("an identity needs its issuer", hint="give both --identity and --issuer")
    if args.identity and (args.policy or args.require_signature):
        raise ConfigError(
            "an identity, or a policy and its keys?", hint="check one after the other; unset FERRYMAN_POLICY"
        )
    if args.identity:
        accepted = api.accept_keyless(args.target, identity=args.identity, issuer=args.issuer)
    else:
        accepted = api.accept(args.target, policy=args.policy, keys=args.require_signature, place=place_of(args))
    if args.json:
        write_json(
            {"target": accepted.target, "digest": accepted.digest, "key": accepted.key, "signer": accepted.signer,
             "is_signed": accepted.is_signed}
        )  # fmt: skip
        return 0
    who = f"signed by {accepted.signer}" if accepted.signer else "nobody was asked for"
    if not accepted.signer and accepted.is_signed:
        who = "it is as it was when it was signed; by whom was not asked"
    write_text(f"{accepted.target}: accepted\n  {accepted.digest}\n  {who}")
    write_text(f" ({short(accepted.key)})\n" if accepted.key else "\n")
    return 0
