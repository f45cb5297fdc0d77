"""The moves of a fleet as functions: what the operator and a box do, from their files of settings."""

import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from ferryman.bundle.land import landing
from ferryman.bundle.read import load_bundle
from ferryman.core.bundle import ATTACHED
from ferryman.core.errors import ConfigError
from ferryman.core.progress import Progress
from ferryman.fleet.agent import Agent
from ferryman.fleet.box import Box, read_box, read_settings
from ferryman.fleet.collect import Collector, read_secret, token_of
from ferryman.fleet.journal import Held, Slot
from ferryman.fleet.operate import Done, Fleet, Operator
from ferryman.fleet.service import Files
from ferryman.fleet.slots import Slots
from ferryman.fleet.update import Updater, Watch
from ferryman.supply.policy import make_policy

_LOOK_S = 5.0
_ENDED = ("complete", "halted")


@dataclass(frozen=True, slots=True)
class Wish:
    """Say what an operator wants: the move, its bundle, and why; `watch` lets `advance` go on to the end."""

    move: str
    bundle: str = ""
    note: str = ""
    dry_run: bool = False
    watch: bool = False


def operate(fleet: Path, wish: Wish, tell: Callable[[Done], None]) -> Done:
    """Do what the operator wants, and tell it each time that something is done."""
    operator = Operator.of(fleet, dry_run=wish.dry_run)
    moves: dict[str, Callable[[], Done]] = {
        "release": lambda: operator.release(wish.bundle, note=wish.note),
        "rollback": lambda: operator.rollback(note=wish.note),
        "status": operator.status,
        "advance": operator.advance,
        "halt": operator.halt,
    }
    done = moves[wish.move]()
    tell(done)
    while wish.watch and wish.move == "advance" and not done.release.is_halted and done.what not in _ENDED:
        time.sleep(_LOOK_S)
        done = operator.advance()
        tell(done)
    return done


def token_for(fleet: Path, box: str) -> str:
    """Give a box's token; raises ConfigError where the fleet has no secret."""
    settings = read_settings(fleet, Fleet)
    if settings.secret_file is None:
        raise ConfigError(
            f"{fleet} names no secret", hint='set secret_file = "fleet.secret", as ferryman fleet collect'
        )
    return token_of(read_secret(settings.secret_file, make=True), box)


@contextmanager
def collecting(
    folder: Path, secret: Path, *, host: str, port: int, tls: tuple[Path | None, Path | None]
) -> Iterator[Collector]:
    """Listen for reports until the end; the secret is made where it isn't there."""
    collector = Collector(folder, read_secret(secret, make=True), host=host, port=port, certificate=tls[0], key=tls[1])
    try:
        yield collector
    finally:
        collector.close()


def run_agent(file: Path, *, once: bool) -> bool:
    """Run a box's agent until SIGTERM or Ctrl-C, or `once`; gives whether the last look went well."""
    stopping = Event()
    agent = Agent(read_box(file), stopping=stopping)
    if once:
        agent.look()
        agent.report()
        return not agent.trouble
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    agent.run()
    return True


def act_on_box(move: str, file: Path, bundle: str, progress: Progress) -> dict[str, Any]:  # JSON
    """Do on a box what needs no agent: install a bundle that lies here, count a start, or show the slots."""
    box = read_box(file)
    slots = Slots(box.root)
    if move == "install":
        return _install(box, slots, Path(bundle), progress)
    done = {"done": slots.boot()} if move == "boot" else {}
    journal = slots.journal
    held: dict[Slot, Any] = {"a": journal.a, "b": journal.b}
    return {
        **done,
        "current": slots.active or "",
        **{slot: _told(one) for slot, one in held.items() if one},
        "change": f"{journal.change.phase} {journal.change.source}" if journal.change else "",
        "boots": journal.boots,
        "failed": journal.bad,
    }  # fmt: skip


def _told(held: Held) -> str:
    return f"{held.model} {held.digest[:12]} (release {held.release}) {held.source}"


def _install(box: Box, slots: Slots, path: Path, progress: Progress) -> dict[str, Any]:  # JSON
    """Put a bundle that lies here into service, with the same checks that one from a registry gets."""
    with slots.locked("agent") as is_ours, tempfile.TemporaryDirectory(dir=box.root, prefix=".install-") as scratch:
        if not is_ours:
            raise ConfigError("the agent of this box runs", hint="stop it first, or publish a release")
        bundle = load_bundle(path, unpack_into=Path(scratch))
        source = f"file:{bundle.manifest.digest}"

        def copy(_: str, folder: Path) -> None:
            with landing(folder) as staged:
                shutil.copytree(bundle.path, staged, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))

        # A server may not run yet, and takes up what `current` leads to when it starts.
        updater = Updater(slots, Files(), copy, make_policy(box.policy), watch=Watch(for_s=0.0))
        updater.resume(progress)
        outcome = updater.update(source, slots.journal.highest, progress)
        if outcome.kind == "unchanged":  # the runtime may be another one
            Files().try_out(load_bundle(slots.current))
    beside = [name for name in ATTACHED if (slots.current / name).is_file()]
    return {"outcome": outcome.kind, "bundle": source, "reason": outcome.reason, "with": ", ".join(beside)}
