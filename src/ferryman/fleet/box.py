"""A box's settings: who it is, where its releases come from, whom it believes, what serves, where it reports."""

import re
import socket
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from ferryman.core.toml_file import read_toml

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")]
Settings = TypeVar("Settings", bound=BaseModel)
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9_.-]+")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ServiceSection(_Section):
    """Be `[service]`: what serves the bundle that `current` leads to."""

    kind: Literal["server", "files"] = Field(
        "server", description="server: ferryman serve; files: an application of your own, which reads the bundle itself"
    )
    url: str = Field("http://127.0.0.1:8080", description="where the server answers")
    admin: str = Field("http://127.0.0.1:8081", description="its admin address")


class ReportsSection(_Section):
    """Be `[reports]`: the collector that hears of this box."""

    url: str = Field("", description="the collector's address; nothing is reported where it is empty")
    token_file: Path | None = Field(None, description="file with this box's token: ferryman fleet token BOX")
    ca: Path | None = Field(None, description="PEM file with the authority of the collector's certificate")
    every_s: Positive = Field(60.0, description="seconds between reports")
    spool_mb: Positive = Field(16.0, description="room for reports while the collector can't be reached")


class Box(_Section):
    """Be a box's `box.toml`."""

    fleet: Name
    box: Name = Field(default_factory=lambda: _host_name(), description="its name; the machine's by default")
    group: Name = Field("default", description="the group that a stage of a release may name")
    releases: str = Field(description="where the fleet's releases lie: HOST/NAME:TAG")
    keys: tuple[Path, ...] = Field(min_length=1, description="public keys that releases are believed from")
    policy: Path | None = Field(None, description="what is accepted of bundles: a policy's file")
    root: Path = Field(Path("/var/lib/ferryman"), description="folder of the slots")
    poll_s: Positive = Field(300.0, description="seconds between two looks for a release, about")
    watch_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        60.0, description="seconds that a new bundle must answer before it is relied on"
    )
    spare_mb: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        100.0, description="room on the disk that an update leaves"
    )
    insecure: bool = Field(False, description="take a registry without TLS")
    ca: Path | None = Field(None, description="PEM file with authorities to trust besides the system's")
    service: ServiceSection = ServiceSection()
    reports: ReportsSection = ReportsSection()


def read_box(file: Path) -> Box:
    """Read a box's settings; paths are from the file's folder. Raises ConfigError that names the key."""
    return read_settings(file, Box)


def read_settings(file: Path, kind: type[Settings]) -> Settings:
    """Read a TOML file of settings; paths in it are from its folder. Raises ConfigError that names the key."""
    return _from(file.resolve().parent, read_toml(file, kind))


def _from(folder: Path, part: Settings) -> Settings:
    """Read every relative path of some settings as from a folder."""
    changed: dict[str, object] = {}
    for name in type(part).model_fields:
        value = getattr(part, name)
        if isinstance(value, Path):
            changed[name] = folder / value
        elif isinstance(value, tuple):
            changed[name] = tuple(folder / one if isinstance(one, Path) else one for one in value)
        elif isinstance(value, BaseModel):
            changed[name] = _from(folder, value)
    return part.model_copy(update=changed)


def _host_name() -> str:
    return _NOT_IN_A_NAME.sub("-", socket.gethostname().lower()).strip("-_.")[:63] or "box"
