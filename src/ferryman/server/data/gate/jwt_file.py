"""The settings of tokens as a file: whose are good here, and where the keys are."""

import tomllib
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ferryman.core.errors import ConfigError
from ferryman.server.data.gate.jwks import JwksSettings
from ferryman.server.data.gate.key_file import mistakes
from ferryman.server.data.gate.rates import Limit
from ferryman.server.data.gate.tokens import DEFAULT_ALGORITHMS, JwtSettings


class JwtFile(BaseModel):
    """Be the file: TOML, with the keys of JwtSettings and of JwksSettings. Paths in it are relative to its folder."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    issuer: str = Field(min_length=1)
    audience: str = Field(min_length=1)
    jwks: str = Field(min_length=1)
    ca_file: Path | None = None
    refresh_s: float = Field(default=300.0, gt=0, allow_inf_nan=False)
    algorithms: tuple[str, ...] = DEFAULT_ALGORITHMS
    leeway_s: float = Field(default=30.0, ge=0, le=600)
    scopes_claim: str = "scope"
    scope_prefix: str = ""
    models_claim: str = ""
    rate_per_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    burst: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _burst_needs_a_rate(self) -> Self:
        if self.burst > 1 and self.rate_per_s is None:
            raise ValueError("a burst needs a rate")
        return self


def read_jwt_settings(path: Path) -> JwtSettings:
    """Read and check a file of settings; raises ConfigError that names every mistake."""
    try:
        read = JwtFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ConfigError(f"there is no {path}", hint="it is TOML with issuer, audience and jwks") from None
    except ValidationError as error:
        raise ConfigError(
            f"{path}: {mistakes(error, JwtFile.model_fields)}", hint="it needs issuer, audience and jwks"
        ) from None
    except (OSError, ValueError) as error:  # not readable, not UTF-8, not TOML
        raise ConfigError(f"{path} can't be read: {error}", hint="it must be a TOML file") from None
    folder = path.resolve().parent
    location = read.jwks if "://" in read.jwks else str(folder / read.jwks)
    ca_file = folder / read.ca_file if read.ca_file is not None else None
    return JwtSettings(
        read.issuer,
        read.audience,
        JwksSettings(location, refresh_s=read.refresh_s, ca_file=ca_file),
        algorithms=read.algorithms,
        leeway_s=read.leeway_s,
        scopes_claim=read.scopes_claim,
        scope_prefix=read.scope_prefix,
        models_claim=read.models_claim,
        limit=Limit(read.rate_per_s, read.burst) if read.rate_per_s is not None else None,
    )
