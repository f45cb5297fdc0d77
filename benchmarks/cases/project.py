"""What a case is, and how it becomes a folder with a ferryman.toml."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
Settings = dict[str, dict[str, Any]]  # ferryman.toml: values are TOML's own
Write = Callable[[Path], Settings]
"""Put the model (and data that are made up) into a folder and give the settings."""


@dataclass(frozen=True, slots=True)
class Case:
    """Name one model with its data. `reads_shared`: its data lie in the shared folder, linked as `data`."""

    name: str
    summary: str
    write: Write
    reads_shared: bool = False


def shared_folder() -> Path | None:
    """Give the folder of real models and data; None where it is missing."""
    folder = Path(os.environ.get("FERRYMAN_SHARED") or REPOSITORY.parent / "shared" / "data")
    return folder.resolve() if folder.is_dir() else None


def start_project(case: Case, folder: Path) -> Settings:
    """Make the case's project in an empty folder; raises FileNotFoundError where its data are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    if case.reads_shared:
        shared = shared_folder()
        if shared is None:
            raise FileNotFoundError("the real models and data are missing; set FERRYMAN_SHARED to their folder")
        (folder / "data").symlink_to(shared, target_is_directory=True)
    settings = case.write(folder)
    write_settings(folder, settings)
    return settings


def vary(settings: Settings, **sections: dict[str, Any]) -> Settings:  # TOML's own values
    """Give the settings with some keys of some sections set otherwise."""
    return {name: {**settings.get(name, {}), **sections.get(name, {})} for name in {**settings, **sections}}


def write_settings(folder: Path, settings: Settings) -> None:
    """Write ferryman.toml."""
    sections = [
        "\n".join([f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in section.items()), ""])
        for name, section in settings.items()
    ]
    (folder / "ferryman.toml").write_text("\n".join(sections), encoding="utf-8")


def _toml(value: Any) -> str:  # any value that TOML has
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(inner) for inner in value) + "]"
    return json.dumps(value)
