"""Choose the verb, and turn every error into two lines and an exit code; nothing heavy is imported before that."""

import argparse
import contextlib
import difflib
import errno
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
from ferryman.cli.first_process import work_below_first_process
from ferryman.cli.output import write_json
from ferryman.cli.talk import say
from ferryman.core.errors import FerrymanError, UserError

VERBS = {
    "init": "guess a ferryman.toml from a trained model, and say why",
    "plan": "show the candidates that a build would make",
    "build": "optimize, verify against the contract, repair, bundle",
    "inspect": "show what a bundle is and what was proved of it",
    "serve": "answer over HTTP and gRPC with bundles, or a repository of them",
    "run": "look through cameras: answer their frames, live",
    "tune": "find the threads, instances and batch that serve a bundle best here",
    "rollout": "bring a new version into service step by step, or take it back",
    "retrain": "train, build and roll out the next version of a served model",
    "records": "ask what became of requests, and check what is kept of them",
    "feedback": "tell what turned out to be true, and see how good answers are",
    "report": "write what became of requests, what drifted and who was alerted, on one page",
    "monitor": "watch a server live; or write rules for Prometheus and a dashboard for Grafana",
    "keys": "make, list and revoke the keys that callers of a server need",
    "conformance": "check that a server speaks the Open Inference Protocol V2",
    "infer": "ask a bundle or a server about pictures, rows or tensors",
    "score": "answer a whole table or folder of pictures, in chunks that survive a kill, and look for drift",
    "verify": "check a bundle's or an image's contract again on this machine",
    "parity": "set all formats of a bundle side by side: answers, metric, latency, size",
    "sign": "vouch for a bundle or an image, and say what is in it",
    "accept": "check who vouches for a bundle or an image",
    "bom": "list what is in a bundle or an image: packages, model, data, licences",
    "pack": "make one .ferry file of a bundle, to copy elsewhere",
    "push": "put a bundle into a registry, beside the images",
    "pull": "take a bundle from a registry, whole and checked",
    "package": "write a bundle as an OCI image, for podman, docker or a registry",
    "deploy": "bring a bundle to a cluster, a cloud, a host or a box",
    "toolchain": "add environments for converters that need one of their own",
    "fleet": "keep many boxes at the right version: releases, stages, the agent on each box",
    "plugins": "list sources, steps, runtimes and tasks",
    "doctor": "look at this machine: CPU, memory, packages, plug-ins",
    "schema": "print the JSON schema of ferryman.toml",
    "config": "list the environment variables that are read",
    "demo": "carry a small detector from weights to a served answer",
}
_STOPPED = {
    "build": "stopped; run it again to resume",
    "tune": "stopped; the bundle is as it was",
    "toolchain": "stopped; run it again to go on",
    "push": "stopped; run it again to go on",
    "score": "stopped; run it again to go on where it was",
    "run": "stopped",
    "pull": "stopped; run it again to go on",
    "deploy": "stopped waiting; what was begun goes on without this",
    "rollout": "stopped looking; the rollout goes on without this",
    "retrain": "stopped; a rollout that has begun goes on without this",
}
_RIGHTS = "look at who may write there, or name another place"
_ROOM = "make room on that disk, or name another place"
_HINTS = {
    errno.EACCES: _RIGHTS, errno.EPERM: _RIGHTS, errno.EROFS: _RIGHTS, errno.ENOSPC: _ROOM, errno.EDQUOT: _ROOM,
    errno.ENOTDIR: "a part of that path is a file", errno.ENAMETOOLONG: "give it a shorter name",
}  # fmt: skip
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
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 - None: closed by who started us
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    if not is_debug and not sys.warnoptions:
        warnings.simplefilter("ignore")  # a library's advice to its callers is not for our users
    try:
        with _stoppable():
            code = _run(words)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt as stop:
        say(_STOPPED.get(next((word for word in words if word in VERBS), ""), "stopped"))
        return TERMINATED if isinstance(stop, _Terminated) else INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at exit complains again
        return PIPE_CLOSED
    except FerrymanError as error:
        return _explain(str(error), error.hint, as_json=as_json, is_debug=is_debug, code=error.exit_code)
    except Exception as error:  # noqa: BLE001 - the process boundary
        text, hint, code = _of_the_place(error) or (
            f"unexpected {type(error).__name__}: {error}", "this is a fault of ferryman; --debug shows the trace", 1,
        )  # fmt: skip
        return _explain(text, hint, as_json=as_json, is_debug=is_debug, code=code)


def _of_the_place(error: Exception) -> tuple[str, str, int] | None:
    """Tell of a file or folder that this user may not write, or a disk that is full: no fault of ours."""
    if not isinstance(error, OSError) or error.errno not in _HINTS or not error.filename:
        return None
    return f"{error.filename}: {error.strerror}", _HINTS[error.errno], UserError.exit_code


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
    if verb == "serve":  # it forks once it is imported: numpy must have started no threads by then
        work_below_first_process()
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
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
    code: int = module.run(parser.parse_intermixed_args(words[:first] + words[first + 1 :]))
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
