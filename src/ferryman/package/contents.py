"""What is in an image: packages with their versions, licences and digests, for a bill of materials."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from email.message import Message
from typing import Any, Literal

CONTENTS = "opt/ferryman/contents.json"
"""Where an image holds the list, so that it can be read from its layers by anybody."""


@dataclass(frozen=True, slots=True)
class Component:
    """Name one thing in an image; `sha256` is that of the file that it came as (a wheel), "" where it came as none."""

    name: str
    version: str
    kind: Literal["python", "package", "system", "model"]
    licence: str = ""
    purl: str = ""
    sha256: str = ""

    def to_json(self) -> dict[str, str]:
        """Give it as the image's list has it."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Component":  # JSON
        """Read it from an image's list."""
        return cls(**{key: str(raw.get(key, "")) for key in cls.__dataclass_fields__})  # type: ignore[arg-type]  # kind: one of ours


def licence_of(metadata: Message) -> str:
    """Read a package's licence: its SPDX expression, or the words that older packages have (PEP 639)."""
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classified = [
        value.rpartition(" :: ")[2] for value in metadata.get_all("Classifier") or () if value.startswith("License ::")
    ]
    said = str(metadata.get("License") or "").strip()
    return said if said and "\n" not in said and len(said) < 80 else " AND ".join(classified)
