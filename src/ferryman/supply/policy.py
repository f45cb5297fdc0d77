"""Say what is accepted: whose signatures, and what must be there beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ferryman.bundle.layout import ATTACHED_LIMIT_BYTES
from ferryman.core.bundle import BOM, PROVENANCE, Bundle
from ferryman.core.errors import Untrusted
from ferryman.core.toml_file import read_toml
from ferryman.supply.dsse import parse_json, read_statement
from ferryman.supply.keys import PublicKey, load_public
from ferryman.supply.model_signature import check_signature, read_signature

Part = Literal["signature", "bom", "provenance"]
_FILES: dict[Part, str] = {"bom": BOM, "provenance": PROVENANCE}


class PolicyFile(BaseModel):
    """Be a policy's TOML file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[str, ...] = Field(min_length=1, description="files of public keys, from the policy's folder")
    require: tuple[Part, ...] = Field(("signature",), description="what must be there; a signature always")


@dataclass(frozen=True, slots=True)
class Policy:
    """Say whose signatures are accepted (nobody's: none is asked for), and what must be there beside one."""

    keys: tuple[PublicKey, ...] = ()
    require: frozenset[Part] = frozenset()

    def check(self, bundle: Bundle) -> PublicKey | None:
        """Give the key that signed a bundle, None where none is asked for; raises Untrusted that names file and keys.

        A signature that doesn't fit its bundle is refused also where none is asked for.
        """
        if not self.keys:
            read_signature(bundle)
            return None
        signer = check_signature(bundle, self.keys)
        for part in sorted(self.require & _FILES.keys()):
            _check_part(bundle, part)
        return signer


EVERYTHING = Policy()
"""Accept what nobody signed; what was signed must still be as it was then."""


def make_policy(file: Path | None, keys: Sequence[Path] = ()) -> Policy:
    """Read a policy's file and the keys that are named beside it; EVERYTHING where there are neither.

    Raises ConfigError that names the file, the key and the value.
    """
    said = read_policy(file) if file is not None else EVERYTHING
    named = tuple(load_public(key) for key in keys)
    return Policy((*said.keys, *named), said.require | {"signature"}) if said.keys or named else EVERYTHING


def read_policy(file: Path) -> Policy:
    """Read a policy's file; raises ConfigError."""
    said = read_toml(file, PolicyFile, called=f"policy {file}", example='keys = ["release.pub"]')
    return Policy(tuple(load_public(file.parent / key) for key in said.keys), frozenset(said.require) | {"signature"})


def _check_part(bundle: Bundle, part: Part) -> None:
    """Raise Untrusted unless what is asked for is there and about this bundle; that it is signed was seen."""
    file = bundle.path / _FILES[part]
    if not file.is_file():
        raise Untrusted(
            f"{bundle.path} has no {file.name}, which the policy asks for", hint="ferryman sign writes it and signs"
        )
    if file.stat().st_size > ATTACHED_LIMIT_BYTES:
        raise Untrusted(f"{file} has more than {ATTACHED_LIMIT_BYTES} bytes", hint="sign the bundle again")
    payload = file.read_bytes()
    try:
        if part == "bom":
            about = {one["content"] for one in parse_json(payload, origin=str(file))["metadata"]["component"]["hashes"]}
        else:
            about = {one["digest"]["sha256"] for one in read_statement(payload, origin=str(file))["subject"]}
    except (KeyError, TypeError) as error:
        raise Untrusted(f"{file} is no {part}: {error!r:.80}", hint="sign the bundle again") from None
    if bundle.manifest.digest not in about:
        raise Untrusted(f"{file} is about another bundle", hint="sign the bundle again")
