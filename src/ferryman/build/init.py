"""Write a first ferryman.toml for a model: what it is, what it seems to do, and what the user has to check."""

import os
import re
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from pydantic import ValidationError

from ferryman.core.artifact import Artifact
from ferryman.core.deployment import ModelSection, parse_deployment
from ferryman.core.errors import ConfigError, SourceError
from ferryman.core.progress import silent
from ferryman.core.signature import TensorSpec
from ferryman.sources.detect import open_source
from ferryman.sources.fetch import fetch
from ferryman.tasks.guess import Guess, TableHeader, guess_task
from ferryman.tasks.rows import read_header


@dataclass(frozen=True, slots=True)
class Initialised:
    """Hold the file that was (or, on a dry run, would be) written, why it says what it says, and what to check."""

    path: Path
    text: str
    reasons: list[str]
    questions: list[str]
    artifact: Artifact
    next_step: str


_INPUT_EXAMPLE = "images:float32:batchx3x224x224"
_MISSING_OPTIONS = {
    "factory": "give --factory package.module:function, which makes the module without arguments",
    "inputs": f"give --input NAME:DTYPE:DIMxDIM... for each input, as --input {_INPUT_EXAMPLE}",
}
_TABLES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".jsonl")


class InitChoices(TypedDict, total=False):
    """Be the keywords of `ferryman.api.init`: the fields of InitSettings."""

    folder: Path
    name: str | None
    calibration: str | None
    evaluation: str | None
    labels: str | None
    target: str | None
    factory: str | None
    inputs: Sequence[str]
    signature: str | None
    trust: bool
    force: bool
    dry_run: bool


@dataclass(frozen=True, slots=True)
class InitSettings:
    """Say where the file goes and what the user already knows; each of `inputs` is NAME:DTYPE:DIMxDIM..."""

    folder: Path = Path()
    name: str | None = None
    calibration: str | None = None
    evaluation: str | None = None
    labels: str | None = None
    target: str | None = None
    factory: str | None = None
    inputs: Sequence[str] = ()
    signature: str | None = None
    trust: bool = False
    force: bool = False
    dry_run: bool = False


def write_deployment(source: str, settings: InitSettings) -> Initialised:
    """Open the model, guess its task and write ferryman.toml; raises ConfigError rather than overwrite one."""
    path = settings.folder / "ferryman.toml"
    if path.exists() and not (settings.force or settings.dry_run):
        raise ConfigError(f"{path} is already there", hint="--force writes it anew, --dry-run only prints it")
    with _folder_made(settings.folder, is_kept=not settings.dry_run):
        return _write(_from_folder(source, settings.folder), path, settings)


def _write(source: str, path: Path, settings: InitSettings) -> Initialised:
    with tempfile.TemporaryDirectory(prefix="ferryman-init-") as scratch:
        found = fetch(source, settings.folder, cache=Path(scratch), sha256=None, progress=silent)
        name = settings.name or _name_of(found)
        model = _section(name, source, settings)
        artifact = _open(found, model, Path(scratch))
        guess = guess_task(artifact, folder=settings.folder, header=_table_header(settings))
    text = _render(model, guess, settings)
    _check(text)
    if not settings.dry_run:
        path.write_text(text, encoding="utf-8")
    return Initialised(path, text, list(guess.reasons), list(guess.questions), artifact, _next_step(path, settings))


@contextmanager
def _folder_made(folder: Path, *, is_kept: bool) -> Iterator[None]:
    """Make the project's folder, so that paths from it lead somewhere; what was made goes again where all fails."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is no folder", hint="--folder says where ferryman.toml is written")
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} can't be made: {error.strerror}", hint="--folder says where to write") from None
    is_done = False
    try:
        yield
        is_done = is_kept
    finally:
        for one in [] if is_done else made:
            with suppress(OSError):
                one.rmdir()


def _from_folder(source: str, folder: Path) -> str:
    """Give a model's path as ferryman.toml needs it: from `folder`, also where it was given from the current folder."""
    given = Path(source) if "\0" not in source and "://" not in source else None
    if given is None or source.startswith("~") or given.is_absolute() or (folder / given).exists():
        return source
    return os.path.relpath(given, folder) if given.exists() else source


def _next_step(path: Path, settings: InitSettings) -> str:
    command = "ferryman build" if settings.folder == Path() else f"ferryman build {settings.folder}"
    if settings.calibration or settings.evaluation:
        return command
    return f"add [data] to {path} (calibration for INT8, evaluation to measure the drop), then {command}"


def _open(found: Path, model: ModelSection, scratch: Path) -> Artifact:
    try:
        return open_source(found, model, scratch)
    except ConfigError as error:
        for key, hint in _MISSING_OPTIONS.items():
            if f"[model] {key} is missing" in str(error):
                raise ConfigError(str(error), hint=hint) from None
        raise
    except SourceError as error:  # there is no file yet to set it in
        raise SourceError(str(error), hint=error.hint.replace("set [model] trust = true", "give --trust")) from None


def _table_header(settings: InitSettings) -> TableHeader:
    """Read which columns the evaluation table has, where it is a table that is there; raises ConfigError, DataError."""
    if settings.target is not None and settings.evaluation is None:
        raise ConfigError(f"there is no table with column '{settings.target}'", hint="--target goes with --evaluation")
    path = settings.folder / (settings.evaluation or "")
    if not path.name.lower().endswith(_TABLES) or not path.is_file():
        return TableHeader(target=settings.target)
    columns = read_header(path)
    if settings.target is not None and settings.target not in columns:
        raise ConfigError(f"{path} has no column '{settings.target}'", hint=f"it has {', '.join(columns)}")
    return TableHeader(columns, settings.target)


def _section(name: str, source: str, settings: InitSettings) -> ModelSection:
    inputs = tuple(_input_spec(text) for text in settings.inputs) or None
    given = {"factory": settings.factory, "inputs": inputs, "signature": settings.signature, "trust": settings.trust}
    try:
        return ModelSection.model_validate({"name": name, "source": source, **given})
    except ValidationError as error:
        if error.errors()[0]["loc"] == ("source",):
            raise ConfigError(
                f"{source!r} can't be written into a ferryman.toml", hint="give it a plainer name"
            ) from None
        raise ConfigError(
            f"a model can't be served as '{name}'", hint="a name is of letters, digits, '.', '_' and '-', at most 100"
        ) from None


def _input_spec(text: str) -> TensorSpec:
    """Read NAME:DTYPE:DIMxDIM..., where a dimension is a number or, for one that varies, a name without an x."""
    name, dtype, sizes = text.rsplit(":", 2) if text.count(":") >= 2 else ("", "", "")
    shape = sizes.split("x")
    if not name or not dtype or not all(re.fullmatch(r"[0-9]{1,9}|[A-Za-z_]\w*", size) for size in shape):
        raise ConfigError(
            f"'{text}' does not say what an input is", hint=f"write it as NAME:DTYPE:DIMxDIM..., as {_INPUT_EXAMPLE}"
        )
    return TensorSpec(name=name, dtype=dtype, shape=tuple(int(size) if size.isdecimal() else size for size in shape))


def _name_of(path: Path) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._") or "model"


def _render(model: ModelSection, guess: Guess, settings: InitSettings) -> str:
    given = model.model_dump(exclude_none=True, include={"name", "source", "factory", "inputs", "signature"})
    if model.trust:
        given["trust"] = True
    lines = ["[model]", *(f"{key} = {_toml(value)}" for key, value in given.items()), "", "[task]"]
    lines += [f"# {_one_line(reason)}" for reason in guess.reasons]
    lines += [f"{_key(key)} = {_toml(value)}" for key, value in guess.spec_toml.items()]
    lines += ["", "[data]", *_data_lines(guess, settings), "", "[contract]", *_CONTRACT]
    return "\n".join(lines) + "\n"


def _data_lines(guess: Guess, settings: InitSettings) -> list[str]:
    calibration, evaluation_example = _DATA_EXAMPLES.get(guess.spec_toml["kind"], _PICTURES)
    lines = []
    if settings.calibration:
        lines.append(f"calibration = {_toml(settings.calibration)}")
    else:
        lines.append(f'# calibration = "{calibration}"   # 100 or more typical inputs, unlabelled: INT8 needs them')
    if settings.evaluation:
        evaluation: dict[str, Any] = {"items": settings.evaluation}  # TOML
        if settings.labels:
            evaluation["labels"] = settings.labels
        if guess.target or settings.target:
            evaluation["target"] = guess.target or settings.target
        lines.append(f"evaluation = {_toml(evaluation)}")
    else:
        lines.append(f"# evaluation = {evaluation_example}   # measures the drop")
    return lines


_PICTURES = ("calibration/*.jpg", '{ items = "val/images/*.jpg", labels = "val/labels/*.txt" }')
_DATA_EXAMPLES = {
    "tabular": ("rows.csv", '{ items = "labelled.csv", target = "label" }'),
    "tensor": ("inputs.npz", '{ items = "labelled.npz", target = "y" }'),
    "classify": ("calibration/*.jpg", '{ items = "val/*/*.jpg" }'),
    "text-classify": ("texts.csv", '{ items = "labelled.csv", target = "label" }'),
    "embed": ("texts.csv", '{ items = "pairs.csv", target = "likeness" }'),
}
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
