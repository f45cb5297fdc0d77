"""From a training command to a version that serves: build, gate, shadow, canary, or the reason why not."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from ferryman.build.run import Built
from ferryman.client.admin import Admin
from ferryman.core.deployment import load_project
from ferryman.core.errors import ContractBroken, FerrymanError, NotFound, NotReady, UserError
from ferryman.core.progress import Progress

_LOOK_S, _AWAY_S = 0.5, 300.0
_ENDED = ("promoted", "rolled back", "aborted")


@dataclass(frozen=True, slots=True)
class Retrained:
    """Hold what came to serve: the version's name, its bundle's folder and digest, and its rollout as it ended."""

    model: str
    version: str
    path: Path
    digest: str
    rollout: Mapping[str, Any]  # JSON


class RetrainChoices(TypedDict, total=False):
    """Take the command that trains, and the rollout's plan."""

    train: Sequence[str]
    plan: Mapping[str, object]


def bring_in(
    project: str | Path, make: Callable[[Path], Built], repository: str | Path, admin: Admin, progress: Progress,
    choices: RetrainChoices,
) -> Retrained:  # fmt: skip
    """Train, have a bundle made in a folder, and roll it out: `api.retrain` says all of it."""
    loaded = load_project(Path(project))
    train, model = choices.get("train", ()), loaded.deployment.model.name
    before = _serving(admin, model)
    if train:
        _train(train, loaded.folder, progress)
    shelf = Path(repository) / model
    incoming = shelf / f".incoming-{os.getpid()}"
    shelf.mkdir(parents=True, exist_ok=True)
    built = make(incoming)
    digest = built.bundle.manifest.digest
    if not built.holds:
        raise ContractBroken(
            f"no candidate of '{model}' keeps the contract; version {before['active']} serves on",
            hint=f"ferryman inspect {_set_aside(incoming, 'broken')}",
        )
    _refuse_known(admin, digest, before, incoming)
    admin.activate(model, before["active"])  # the highest one would serve by itself, without a rollout
    version = _next(shelf)
    path = shelf / version
    incoming.rename(path)
    try:
        admin.start_rollout(model, version, {"agreement": {}, **choices.get("plan", {})})
        ended = _follow(admin, model, version, progress)
    except FerrymanError as error:
        kept = _set_aside(path, f"refused-{version}")
        raise FerrymanError(
            f"version {version} of '{model}' is not served: {error}", hint=f"it lies in {kept}"
        ) from None
    return Retrained(model, version, path, digest, ended)


def _train(train: Sequence[str], folder: Path, progress: Progress) -> None:
    progress("train", note=" ".join(train))
    try:
        code = subprocess.run(train, cwd=folder, stdout=2, check=False).returncode  # noqa: S603  the user's own words
    except (OSError, ValueError) as error:
        hint = "--train takes a program and its arguments"
        raise UserError(f"{train[0]} can't be started: {error}", hint=hint) from None
    if code != 0:
        raise FerrymanError(f"the training ended with exit code {code}: {' '.join(train)}", hint="its output says why")


def _serving(admin: Admin, model: str) -> dict[str, Any]:  # JSON
    """Give what the server says of a model that it serves; raises UserError before any time is spent."""
    served: dict[str, Any] | None = admin.status()["models"].get(model)  # JSON
    if served is None or served["active"] is None:
        raise UserError(f"the server has no model '{model}' to bring a version of in", hint="ferryman serve REPOSITORY")
    return served


def _refuse_known(admin: Admin, digest: str, before: Mapping[str, Any], incoming: Path) -> None:  # JSON
    serving = {each.get("digest"): version for version, each in before["versions"].items()}
    try:
        rolled_back = admin.actions()["rolled_back"]
    except (NotFound, NotReady):  # a server that watches nothing
        rolled_back = []
    reason = ""
    if digest in serving:
        reason = f"this is version {serving[digest]}, bit for bit: the training changed nothing"
    elif digest in rolled_back:
        reason = "an alert had this very bundle rolled back"
    if reason:
        kept = _set_aside(incoming, "known")
        raise UserError(reason, hint=f"train on other data; it lies in {kept}")


def _next(shelf: Path) -> str:
    numbers = [entry.name.removeprefix(".refused-").removesuffix(".ferry") for entry in shelf.iterdir()]
    return str(max((int(number) for number in numbers if number.isdecimal()), default=0) + 1)


def _set_aside(path: Path, name: str) -> Path:
    """Keep a bundle where the server doesn't look, in place of one that was kept before."""
    aside = path.with_name(f".{name}")
    if aside.exists():
        aside = path.with_name(f".{name}-{time.time_ns()}")
    return path.rename(aside)


def _follow(admin: Admin, model: str, version: str, progress: Progress) -> dict[str, Any]:  # JSON
    heard_s = time.monotonic()
    while True:
        time.sleep(_LOOK_S)
        try:
            shown = admin.rollout(model)
        except NotReady:  # the server may be starting again: it goes on with its rollouts
            if time.monotonic() - heard_s > _AWAY_S:
                raise
            continue
        heard_s = time.monotonic()
        if shown["candidate"] != version:
            raise FerrymanError(f"another rollout, to version {shown['candidate']}, took its place")
        progress("rollout", note=f"{shown['phase']} {shown['weight']:.0%}{', paused' if shown['is_paused'] else ''}")
        if shown["phase"] == "promoted":
            return shown
        if shown["phase"] in _ENDED:
            raise FerrymanError(f"its rollout was {shown['phase']}: {shown['events'][-1]['reason']}")
