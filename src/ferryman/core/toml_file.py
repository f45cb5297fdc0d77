"""Read a small TOML file of settings into its typed model."""

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ferryman.core.errors import ConfigError

Kind = TypeVar("Kind", bound=BaseModel)


def read_toml(file: Path, kind: type[Kind], *, called: str = "", example: str = "") -> Kind:
    """Read and check a TOML file; raises ConfigError that names the file (as `called`) and the key.

    `example` is the hint for a file that is no TOML.
    """
    name = called or str(file)
    try:
        return kind.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{name} can't be read: {error.strerror}", hint="check the path") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        hint = f"known keys: {', '.join(kind.model_fields)}"
        raise ConfigError(f"{name}: '{where}': {first['msg']}", hint=hint) from None
    except ValueError as error:
        raise ConfigError(f"{name} is not valid TOML: {error}", hint=example) from None
