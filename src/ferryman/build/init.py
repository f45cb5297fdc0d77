"""Write a first ferryman.toml for a model: what it is, what it seems to do, and what the user has to check."""

import re
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from pydantic import ValidationError

from ferryman.core.artifact import Artifact
from ferryman.core.deployment import ModelSection, parse_deployment
from ferryman.core.errors import ConfigError
from ferryman.core.progress import silent
from ferryman.sources.detect import open_source
from ferryman.sources.fetch import fetch
from ferryman.tasks.guess import Guess, guess_task


@dataclass(frozen=True, slots=True)
class Initialised:
    """Hold the file that was (or, on a dry run, would be) written, why it says what it says, and what to check."""

    path: Path
    text: str
    reasons: list[str]
    questions: list[str]
    artifact: Artifact


class InitChoices(TypedDict, total=False):
    """Be the keywords of `ferryman.api.init`: the fields of InitSettings."""

    folder: Path
    name: str | None
    calibration: str | None
    evaluation: str | None
    labels: str | None
    force: bool
    dry_run: bool


@dataclass(frozen=True, slots=True)
class InitSettings:
    """Say where the file goes and what the user already knows."""

    folder: Path = Path()
    name: str | None = None
    calibration: str | None = None
    evaluation: str | None = None
    labels: str | None = None
    force: bool = False
    dry_run: bool = False


def write_deployment(source: str, settings: InitSettings) -> Initialised:
    """Open the model, guess its task and write ferryman.toml; raises ConfigError rather than overwrite one."""
    path = settings.folder / "ferryman.toml"
    if path.exists() and not (settings.force or settings.dry_run):
        raise ConfigError(f"{path} is already there", hint="--force writes it anew, --dry-run only prints it")
    with tempfile.TemporaryDirectory(prefix="ferryman-init-") as scratch:
        found = fetch(source, settings.folder, cache=Path(scratch), sha256=None, progress=silent)
        name = settings.name or _name_of(found)
        artifact = open_source(found, _section(name, source), Path(scratch))
        guess = guess_task(artifact, folder=settings.folder)
    text = _render(name, source, guess, settings)
    _check(text)
    if not settings.dry_run:
        settings.folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return Initialised(path, text, list(guess.reasons), list(guess.questions), artifact)


def _section(name: str, source: str) -> ModelSection:
    try:
        return ModelSection(name=name, source=source)
    except ValidationError as error:
        if error.errors()[0]["loc"] == ("source",):
            raise ConfigError(
                f"{source!r} can't be written into a ferryman.toml", hint="give it a plainer name"
            ) from None
        raise ConfigError(
            f"a model can't be served as '{name}'", hint="a name is of letters, digits, '.', '_' and '-', at most 100"
        ) from None


def _name_of(path: Path) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._") or "model"


def _render(name: str, source: str, guess: Guess, settings: InitSettings) -> str:
    lines = ["[model]", f"name = {_toml(name)}", f"source = {_toml(source)}", "", "[task]"]
    lines += [f"# {_one_line(reason)}" for reason in guess.reasons]
    lines += [f"{_key(key)} = {_toml(value)}" for key, value in guess.spec_toml.items()]
    lines += ["", "[data]"]
    if settings.calibration:
        lines.append(f"calibration = {_toml(settings.calibration)}")
    else:
        lines.append('# calibration = "calibration/*.jpg"   # 100 or more typical inputs, unlabelled: INT8 needs them')
    if settings.evaluation:
        evaluation: dict[str, Any] = {"items": settings.evaluation}  # TOML
        if settings.labels:
            evaluation["labels"] = settings.labels
        lines.append(f"evaluation = {_toml(evaluation)}")
    else:
        lines.append('# evaluation = { items = "val/images/*.jpg", labels = "val/labels/*.txt" }   # measures the drop')
    lines += ["", "[contract]", *_CONTRACT]
    return "\n".join(lines) + "\n"


_CONTRACT = (
    "max_drop = 0.01          # of the metric, absolute, against this model",
    "max_score_shift = 0.05   # mean change of confidence",
    "# p99_ms = 60            # at the rate below, Poisson arrivals",
    "# at_rps = 10",
    "# max_size_mb = 10",
    "# max_rss_mb = 400",
    "# max_cold_start_s = 2",
    'prefer = "latency"       # of what holds, take the best by: latency, size, memory, accuracy',
)


def _check(text: str) -> None:
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"no valid ferryman.toml can be written: {error}", hint="give the files plainer names"
        ) from None
    parse_deployment(raw, origin="the generated ferryman.toml")


def _one_line(text: str) -> str:
    """Give text for a comment: what a model calls its tensors must not end it and begin a key."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)


def _toml(value: Any) -> str:  # a TOML value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(inner) for inner in value) + "]"
    return repr(value)
