"""The one file that a user writes: `ferryman.toml`, typed and strict."""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, ValidationError
from pydantic_core import ErrorDetails

from ferryman.core.contract import Contract
from ferryman.core.errors import ConfigError, PlanError
from ferryman.core.monitoring import MonitorSection
from ferryman.core.pipeline import PipelineSection
from ferryman.core.plugins import find, plugins
from ferryman.core.signature import TensorSpec
from ferryman.core.task import TaskSpec


class Section(BaseModel):
    """Be a section of ferryman.toml: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSection(Section):
    """Say which trained model this is and how it is loaded."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="Name of the model when it is served.")
    source: str = Field(min_length=1, description="The trained model: a path or an http(s) URL.")
    format: str | None = Field(None, description="The source's format; found from the file's content by default.")
    factory: str | None = Field(
        None, description="'package.module:function' that makes the torch module whose weights `source` holds."
    )
    inputs: tuple[TensorSpec, ...] | None = Field(
        None, description="Name, dtype and shape of each input, for sources that don't say (torch modules)."
    )
    signature: str | None = Field(
        None, description="Which of its signatures is served, for a SavedModel that has several."
    )
    trust: bool = Field(False, description="Allow a source that runs code when it is opened (pickle, joblib).")
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="What the source file's digest must be.")
    license: str | None = Field(
        None, description="SPDX expression of the weights' licence (Apache-2.0); it goes into the bill of materials."
    )


class EvaluationSection(Section):
    """Name labelled data."""

    items: str = Field(description="Glob of pictures, or a .csv (also .csv.gz), .npz or .jsonl file.")
    labels: str | None = Field(None, description="Glob of label files (yolo), or the one file that holds them.")
    format: str | None = Field(
        None, description="yolo, coco, csv, folders, table or arrays; found from the files by default."
    )
    target: str | None = Field(None, description="The column of a table, or the array, that holds the truth.")
    limit: Annotated[int, Field(gt=0)] | None = Field(None, description="Take only so many items, evenly spread.")


class DataSection(Section):
    """Name the user's data. Globs and paths are relative to the folder of ferryman.toml."""

    calibration: str | None = Field(None, description="Unlabelled inputs for INT8: glob of pictures, a table, arrays.")
    calibration_limit: Annotated[int, Field(gt=0)] = Field(200, description="Take at most so many, evenly spread.")
    evaluation: EvaluationSection | None = Field(None, description="Labelled data for the metric.")
    golden: Annotated[int, Field(ge=1, le=64)] = Field(4, description="Samples kept in the bundle with their answers.")
    license: str | None = Field(
        None, description="SPDX expression of the data's licence (CC-BY-4.0); it goes into the bill of materials."
    )


class BuildSection(Section):
    """Say how to search."""

    candidates: tuple[str, ...] | None = Field(
        None, description="Only these, as '<format>-<precision>' (onnx-int8); all that are installed by default."
    )
    formats: tuple[str, ...] = Field(
        (), description="Formats to export beside the model that is served, each verified: litert, coreml, tfjs ..."
    )
    targets: tuple[str, ...] = Field(
        (), description="Kinds of place to find a winner for: server, edge, browser, phone; each tries what runs there."
    )
    in_graph: Literal["pre", "pre+post"] | None = Field(
        None,
        description="Export each ONNX and OpenVINO model once more, taking pictures: with what the task does "
        "before it, or also after it, in its graph.",
    )
    time_budget_s: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Time to try candidates in, in seconds: cheapest first; what holds is measured after it."
    )
    repair: bool = Field(True, description="Repair a candidate that breaks the contract.")
    budget_s: Annotated[float, Field(gt=0)] = Field(900.0, description="Time for repairs, in seconds.")
    threads: Annotated[int, Field(ge=0, le=1024)] = Field(0, description="Cores for one inference; 0: all there are.")
    step_time_s: Annotated[float, Field(gt=0)] = Field(
        1800.0, description="Time that a converter in a toolchain may take, in seconds."
    )
    step_memory_mb: Annotated[int, Field(ge=0)] = Field(
        0, description="Memory that a converter in a toolchain may take; 0: four fifths of the machine's."
    )
    seed: int = Field(0, description="Seed of everything random.")
    options: dict[str, dict[str, Any]] = Field(  # each step's own options
        default_factory=dict, description="Options of a step, by its name: [build.options.int8]."
    )


def _as_spec(value: Any) -> Any:  # raw TOML
    if not isinstance(value, dict):
        return value
    kind = value.get("kind")
    if not isinstance(kind, str):
        raise ValueError(f"[task] needs kind = one of {', '.join(plugins('tasks'))}")
    try:
        return find("tasks", kind).cls.Spec.model_validate(value)
    except PlanError as error:
        nearest = difflib.get_close_matches(kind, plugins("tasks"), n=1)
        raise ValueError(f"{error}{f'; did you mean {nearest[0]!r}?' if nearest else ''} ({error.hint})") from error


class Deployment(Section):
    """Be the whole of ferryman.toml."""

    model: ModelSection
    task: Annotated[SerializeAsAny[TaskSpec], BeforeValidator(_as_spec)]
    data: DataSection = DataSection()
    contract: Contract = Contract()
    build: BuildSection = BuildSection()
    monitor: MonitorSection = MonitorSection()
    targets: dict[str, dict[str, Any]] = Field(  # each kind's own keys: `targets_of_project` reads them
        default_factory=dict, description="Places that `ferryman deploy` carries a bundle to, a section each."
    )
    camera: dict[str, dict[str, Any]] = Field(  # each kind's own keys: `ferryman run` reads them
        default_factory=dict, description="Cameras that `ferryman run` looks through, a section each."
    )
    pipeline: PipelineSection = PipelineSection()


RUN_SECTIONS = ("camera", "pipeline")
"""What `ferryman run` reads of the file: a place's own, and no part of a bundle."""


@dataclass(frozen=True, slots=True)
class Project:
    """Hold a deployment and the folder that its relative paths start from."""

    folder: Path
    deployment: Deployment
    targets: Mapping[str, Any] = field(default_factory=dict)  # core.target.Target: plug-ins


def load_project(path: Path) -> Project:
    """Read ferryman.toml (or the one in a folder); raises ConfigError that names file, key, value and known keys."""
    file = path / "ferryman.toml" if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"there is no {file}", hint="ferryman init MODEL writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} can't be read: {error}", hint="it must be a UTF-8 text file") from None
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{file} is not valid TOML: {error}", hint="strings need quotes; see https://toml.io"
        ) from None
    deployment = parse_deployment(raw, origin=str(file))
    targets = {name: read_target(name, said, origin=str(file)) for name, said in deployment.targets.items()}
    return Project(folder=file.resolve().parent, deployment=deployment, targets=targets)


def read_target(name: str, raw: dict[str, Any], *, origin: str) -> Any:  # raw TOML; gives a core.target.Target
    """Check a `[targets.NAME]` section; raises ConfigError with every mistake, as `parse_deployment` does."""
    return read_plugin("targets", f"targets.{name}", {"kind": name, **raw}, origin=origin)


def read_plugin(group: str, section: str, raw: dict[str, Any], *, origin: str) -> Any:  # raw TOML; a plug-in's section
    """Check a section that a plug-in defines, which its `kind` names; raises ConfigError with every mistake."""
    kind = raw.get("kind")
    known = plugins(group)
    if kind not in known:
        nearest = difflib.get_close_matches(str(kind), known, n=1)
        meant = f"; did you mean '{nearest[0]}'?" if nearest else ""
        raise ConfigError(
            f"{origin}: [{section}]: there is no kind of {group[:-1]} '{kind}'{meant}",
            hint=f"kind = one of {', '.join(known)}",
        )
    try:
        return known[kind].cls.model_validate(raw)
    except ValidationError as error:
        lines = [_explain(detail, raw, f"{section}.", known[kind].cls) for detail in error.errors()]
        raise ConfigError(
            f"{origin}: " + f"\n{origin}: ".join(lines), hint="ferryman schema prints every key"
        ) from None


def parse_deployment(raw: dict[str, Any], *, origin: str) -> Deployment:  # raw TOML or JSON
    """Check raw settings; raises ConfigError with every mistake, each with its key, value and way out."""
    try:
        return Deployment.model_validate(raw)
    except ValidationError as error:
        lines = [_explain(detail, raw) for detail in error.errors(include_url=False)]
        raise ConfigError(
            f"{origin}: " + f"\n{origin}: ".join(lines), hint="ferryman schema prints every key"
        ) from None


def _explain(detail: ErrorDetails, raw: dict[str, Any], prefix: str = "", model: Any = None) -> str:  # raw TOML
    where = [part for part in detail["loc"] if part != "task" or detail["loc"][0] == "task"]
    key = prefix + ".".join(str(part) for part in where)
    if detail["type"] == "extra_forbidden":
        known = _known_keys(tuple(where[:-1]), raw, model or Deployment)
        nearest = difflib.get_close_matches(str(where[-1]), known, n=1, cutoff=0.5)
        meant = f"; did you mean '{nearest[0]}'?" if nearest else ""
        return f"unknown key '{key}'{meant} (known here: {', '.join(known)})"
    if detail["type"] == "missing":
        return f"key '{key}' is missing"
    message = detail["msg"].removeprefix("Value error, ")
    value = detail.get("input")
    shown = f" = {value!r}" if not isinstance(value, dict) else ""
    return f"key '{key}'{shown}: {message[:1].lower()}{message[1:]}"


def _known_keys(where: tuple[int | str, ...], raw: dict[str, Any], model: Any) -> list[str]:  # raw TOML
    """Walk from `model` through annotations of several kinds."""
    for part in where:
        if part == "task" and model is Deployment:
            kind = raw.get("task", {}).get("kind")
            model = plugins("tasks")[kind].cls.Spec
        elif isinstance(part, str) and part in getattr(model, "model_fields", {}):
            model = _inner_model(model.model_fields[part].annotation)
    return sorted(getattr(model, "model_fields", {}))


def _inner_model(annotation: Any) -> Any:  # a typing construct
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = [_inner_model(part) for part in getattr(annotation, "__args__", ())]
    return next((model for model in inner if model is not None), None)


def deployment_schema() -> dict[str, Any]:  # JSON schema
    """Give the JSON schema of ferryman.toml, with every installed task's own keys."""
    schema = Deployment.model_json_schema()
    tasks = []
    for plugin in plugins("tasks").values():
        spec = plugin.cls.Spec.model_json_schema(ref_template="#/$defs/{model}")
        schema.setdefault("$defs", {}).update(spec.pop("$defs", {}))
        spec["properties"]["kind"] = {"const": plugin.name, "type": "string"}
        tasks.append(spec)
    definitions = schema.setdefault("$defs", {})
    for key, group in (("targets", "targets"), ("camera", "cameras")):
        sections = [plugin_schema(plugin.cls, plugin.name, definitions) for plugin in plugins(group).values()]
        schema["properties"][key]["additionalProperties"] = {"anyOf": sections}
    schema["properties"]["task"] = {"oneOf": tasks, "description": "What the tensors mean."}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "ferryman.toml"}


def plugin_schema(
    cls: Any, kind: str, definitions: dict[str, Any]
) -> dict[str, Any]:  # a section's class; JSON schemas
    """Give the JSON schema of one kind's section; what it refers to goes into `definitions`, under the kind's name."""
    schema: dict[str, Any] = cls.model_json_schema(ref_template=f"#/$defs/{kind}.{{model}}")  # JSON schema
    definitions.update({f"{kind}.{name}": one for name, one in schema.pop("$defs", {}).items()})
    schema["properties"]["kind"] = {**schema["properties"]["kind"], "const": kind}
    return schema
