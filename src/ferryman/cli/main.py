"""Choose the verb, and turn every error into two lines and an exit code; nothing heavy is imported before that."""

import argparse
import contextlib
import difflib
import importlib
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NoReturn

from ferryman import __version__
from ferryman.cli.output import write_json
from ferryman.cli.talk import say
from ferryman.core.errors import FerrymanError, UserError

VERBS = {
    "init": "guess a ferryman.toml from a trained model, and say why",
    "plan": "show the candidates that a build would make",
    "build": "optimize, verify against the contract, repair, bundle",
    "inspect": "show what a bundle is and what was proved of it",
    "serve": "answer over HTTP and gRPC with bundles, or a repository of them",
    "tune": "find the threads, instances and batch that serve a bundle best here",
    "rollout": "bring a new version into service step by step, or take it back",
    "keys": "make, list and revoke the keys that callers of a server need",
    "conformance": "check that a server speaks the Open Inference Protocol V2",
    "infer": "ask a bundle or a server about pictures, rows or tensors",
    "verify": "check a bundle's contract again on this machine",
    "pack": "make one .ferry file of a bundle, to copy elsewhere",
    "plugins": "list sources, steps, runtimes and tasks",
    "doctor": "look at this machine: CPU, memory, packages, plug-ins",
    "schema": "print the JSON schema of ferryman.toml",
    "config": "list the environment variables that are read",
    "demo": "carry a small detector from weights to a served answer",
}
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
PIPE_CLOSED = 128 + signal.SIGPIPE


class _Terminated(KeyboardInterrupt):
    """End as Ctrl-C does, for SIGTERM: everything that opens closes, and no half-written file stays."""


class Parser(argparse.ArgumentParser):
    """Raise UserError for a wrong command line, so that it is told like every other mistake."""

    def error(self, message: str) -> NoReturn:
        """Raise with the nearest known option as the hint."""
        known = [option for action in self._actions for option in action.option_strings]
        wrong = [word.split("=")[0] for word in message.split() if word.startswith("--")]
        nearest = difflib.get_close_matches(wrong[0], known, n=1) if wrong and "unrecognized" in message else []
        meant = f"did you mean {nearest[0]}? " if nearest else ""
        raise UserError(message, hint=f"{meant}{self.prog} --help shows what it takes")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; give the exit code: 0 well, 1 our fault, 2 the user's, 3 the contract doesn't hold."""
    words = list(sys.argv[1:] if argv is None else argv)
    is_debug, as_json = "--debug" in words, "--json" in words
    if not is_debug and not sys.warnoptions:
        warnings.simplefilter("ignore")  # a library's advice to its callers is not for our users
    try:
        with _stoppable():
            code = _run(words)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt as stop:
        say("stopped; run it again to resume")
        return TERMINATED if isinstance(stop, _Terminated) else INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at exit complains again
        return PIPE_CLOSED
    except FerrymanError as error:
        return _explain(str(error), error.hint, as_json=as_json, is_debug=is_debug, code=error.exit_code)
    except Exception as error:  # noqa: BLE001 - the process boundary
        hint = "this is a fault of ferryman; --debug shows the trace"
        text = f"unexpected {type(error).__name__}: {error}"
        return _explain(text, hint, as_json=as_json, is_debug=is_debug, code=1)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Turn SIGTERM into _Terminated; `serve` takes it over while it listens, to drain."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals: its owner does
        return

    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(words: list[str]) -> int:
    first = next((index for index, word in enumerate(words) if not word.startswith("-")), len(words))
    top = _top_parser()
    top.parse_args(words[:first])
    if first == len(words):
        top.print_help(sys.stderr)
        return UserError.exit_code
    verb = words[first]
    if verb not in VERBS:
        nearest = difflib.get_close_matches(verb, VERBS, n=1)
        meant = f"did you mean {nearest[0]}? " if nearest else ""
        raise UserError(f"there is no verb '{verb}'", hint=f"{meant}ferryman --help lists them")
    module = importlib.import_module(f"ferryman.cli.{verb}")
    parser = Parser(
        prog=f"ferryman {verb}",
        description=f"{VERBS[verb][0].upper()}{VERBS[verb][1:]}.",
        epilog=f"example:\n  {module.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_common(parser)
    module.add_arguments(parser)
    code: int = module.run(parser.parse_args(words[:first] + words[first + 1 :]))
    return code


def _top_parser() -> Parser:
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {summary}" for verb, summary in VERBS.items()]
    parser = Parser(
        prog="ferryman",
        usage="ferryman VERB [options]",
        description="Carry a trained model to something that others rely on, with one contract checked at every stage.",
        epilog="verbs:\n"
        + "\n".join(lines)
        + "\n\nexample:\n  ferryman init model.onnx && ferryman build && ferryman serve dist/model\n\n"
        "ferryman VERB --help shows what a verb takes. Exit codes: 0 well, 1 our fault, 2 yours, 3 the contract "
        "doesn't hold.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_common(parser)
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--version", action="version", version=f"ferryman {__version__}")
    return parser


def _add_common(parser: Parser) -> None:
    parser.add_argument("--quiet", action="store_true", help="say nothing but results and errors")
    parser.add_argument("--debug", action="store_true", help="show the trace of an error")


def _explain(text: str, hint: str, *, as_json: bool, is_debug: bool, code: int) -> int:
    if is_debug:
        traceback.print_exc()
    if as_json:
        write_json({"error": text, "hint": hint})
    say(text, label="error", style="red")
    if hint:
        say(hint, label="hint", style="yellow")
    return code
