"""What a worker is told to load, and what it says of it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ferryman.core.signature import Signature
from ferryman.server.data.job import GoldenVerdict, Loaded


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """Say what to load and how: `threads` cores for one call of the engine, `instances` calls at once.

    `max_batch` is the most rows that one call may hold where the model itself takes any number.
    """

    path: Path
    threads: int = 1
    instances: int = 1
    max_batch: int = 256

    def to_json(self) -> dict[str, Any]:  # JSON
        """Give it as JSON values."""
        return {**asdict(self), "path": str(self.path)}


def read_order(raw: dict[str, Any]) -> LoadOrder:  # JSON
    """Give an order back."""
    return LoadOrder(**{**raw, "path": Path(raw["path"])})


def write_loaded(loaded: Loaded) -> dict[str, Any]:  # JSON
    """Give what a worker found as JSON values."""
    return {**asdict(loaded), "signature": loaded.signature.model_dump(mode="json")}


def read_loaded(raw: dict[str, Any]) -> Loaded:  # JSON
    """Give back what a worker found."""
    return Loaded(
        **{
            **raw,
            "signature": Signature.model_validate(raw["signature"]),
            "golden": GoldenVerdict(**raw["golden"]),
        }
    )
