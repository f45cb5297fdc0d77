"""What `ferryman run` is to do, read from ferryman.toml and checked before anything is opened."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferryman.core.camera import Camera
from ferryman.core.deployment import load_project, read_plugin
from ferryman.core.errors import ConfigError
from ferryman.core.pipeline import PipelineSection
from ferryman.core.plugins import find
from ferryman.core.task import TaskSpec

_HERE = "source"


@dataclass(frozen=True, slots=True)
class RunPlan:
    """Hold the cameras by name, how they are answered, and the bundle (None where servers answer)."""

    cameras: Mapping[str, Camera]
    pipeline: PipelineSection
    model: str
    task: TaskSpec
    bundle: Path | None
    file: Path


def read_plan(place: Path, *, only: tuple[str, ...] = (), bundle: Path | None = None) -> RunPlan:
    """Read it; raises ConfigError for what can't be run, MissingExtra for a camera whose packages aren't installed."""
    project = load_project(place)
    file = place / "ferryman.toml" if place.is_dir() else place
    said = project.deployment.camera
    if not said:
        raise ConfigError(
            f"{file} names no camera", hint='add [camera.NAME] with source = "rtsp://...", a video or a device'
        )
    unknown = [name for name in only if name not in said]
    if unknown:
        raise ConfigError(f"there is no camera '{unknown[0]}'", hint=f"{file} has {', '.join(said)}")
    section = project.deployment.pipeline
    cameras = {
        name: _camera(name, raw, project.folder, str(file)) for name, raw in said.items() if not only or name in only
    }
    model = section.model or project.deployment.model.name
    here = bundle or project.folder / (section.bundle or f"dist/{project.deployment.model.name}")
    is_local = section.infer == ("local",)
    return RunPlan(cameras, section, model, project.deployment.task, here if is_local or bundle else None, file)


def _camera(name: str, raw: Mapping[str, Any], folder: Path, origin: str) -> Camera:  # raw TOML
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{origin}: camera.{name} = {raw!r} is no section", hint=f"write [camera.{name}]")
    camera = read_plugin("cameras", f"camera.{name}", {"kind": "video", **raw}, origin=origin)
    find("cameras", camera.kind).require()
    source = getattr(camera, _HERE, "")
    if camera.kind != "gstreamer" and "://" not in source and not Path(source).is_absolute():
        camera = camera.model_copy(update={_HERE: str(folder / source)})
    chosen: Camera = camera
    return chosen
