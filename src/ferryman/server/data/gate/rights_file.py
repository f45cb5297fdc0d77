"""The rights of client certificates as a file: what the owners of which names may."""

import tomllib
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from ferryman.core.errors import ConfigError
from ferryman.server.data.gate.caller import Scope
from ferryman.server.data.gate.certificates import CertificateRights, Certificates, CertificateSettings
from ferryman.server.data.gate.follow import Followed
from ferryman.server.data.gate.key_file import mistakes
from ferryman.server.data.gate.rates import Limit

_FORM = '["NAME"] with scopes = ["infer", "read"], models = ["*"], rate_per_s and burst, as keys have them'
_OTHERS = "*"


class Rights(BaseModel):
    """Be one table of the file: what the owner of a certificate may, as for a key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scopes: tuple[Scope, ...] = Field(default=("infer", "read"), min_length=1)
    models: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] = Field(default=("*",), min_length=1)
    rate_per_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    burst: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _burst_needs_a_rate(self) -> Self:
        if self.burst is not None and self.rate_per_s is None:
            raise ValueError("a burst needs a rate")
        return self

    def granted(self) -> CertificateRights:
        """Give what the gate works with."""
        limit = None
        if self.rate_per_s is not None:
            limit = Limit(self.rate_per_s, self.burst or max(1, round(self.rate_per_s)))
        return CertificateRights(frozenset(self.scopes), self.models, limit)


_TABLES = TypeAdapter(dict[str, Rights])


def read_rights(path: Path) -> CertificateSettings:
    """Read and check a file of rights; raises ConfigError that names every mistake."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        rights = {name: held.granted() for name, held in _TABLES.validate_python(tables).items()}
    except FileNotFoundError:
        raise ConfigError(f"there is no {path}", hint=f"it is TOML: {_FORM}") from None
    except ValidationError as error:
        raise ConfigError(f"{path}: {mistakes(error, Rights.model_fields)}", hint=f"its tables are {_FORM}") from None
    except (OSError, ValueError) as error:  # not readable, not UTF-8, not TOML
        raise ConfigError(f"{path} can't be read: {error}", hint=f"it is TOML: {_FORM}") from None
    others = rights.pop(_OTHERS, None)
    if len({name.lower() for name in rights}) < len(rights):
        raise ConfigError(f"{path} has two tables for one name: DNS names have no case", hint=f"its tables are {_FORM}")
    return CertificateSettings(rights, others)


def follow_rights(path: Path, certificates: Certificates | None) -> Followed:
    """Have certificates go by a file, now and whenever it changes; raises ConfigError where nobody shows any."""
    if certificates is None:
        raise ConfigError(f"{path} gives rights to certificates, and nobody is asked for one", hint="add --client-ca")

    def take(file: Path) -> str:
        settings = read_rights(file)
        certificates.use(settings)
        return f"{len(settings.rights)} names"

    return Followed(path, take)
