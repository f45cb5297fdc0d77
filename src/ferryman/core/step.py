"""What turns one artifact into another: import, optimize, export."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from ferryman.core.artifact import Artifact
from ferryman.core.limits import Limits
from ferryman.core.progress import Progress, silent
from ferryman.core.signature import Tensors


@dataclass(frozen=True, slots=True)
class StepContext:
    """Give a step a folder of its own to write in, the user's calibration tensors, and someone to talk to.

    `calibration` yields model inputs (batch of 1, or the model's fixed batch); it may decode pictures on access.
    `calibration_digest` names its content, where the caller knows it. `cache` is a folder that outlives this run: a
    step keeps there what it derives from equal bytes alone, so that tries which differ in their options share it.
    `limits` bound what runs in a process of its own.
    """

    workspace: Path
    calibration: Sequence[Tensors] = ()
    seed: int = 0
    threads: int = 1
    progress: Progress = field(default=silent)
    calibration_digest: str = ""
    cache: Path | None = None
    limits: Limits = field(default=Limits())


class Step(Protocol):
    """Turn an artifact of an accepted format into one of the produced format.

    A step is a frozen dataclass: its fields are its options (in ferryman.toml and in the cache key), so `run`
    depends on nothing but them, the source's bytes and the calibration tensors, and writes equal bytes each time.
    `precision` is what the step makes of an "fp32" artifact; None keeps what there is. A step that runs in a toolchain
    names it in a class attribute `toolchain`; one with `on_request = True` is taken only where a candidate is named.
    One with `imports = True` is the only way from what was trained to what is served: it is taken, toolchain or not.
    `cost_s` is about how many seconds it takes, for a build that has a time budget: by default a guess.
    `remedies` are pairs of words and options that a build tries, in order, where the step's result breaks the contract.
    Where an attribute (or a property) `on_machine` is True, the result depends on this machine's processor, too.
    """

    name: ClassVar[str]
    accepts: ClassVar[frozenset[str]]
    produces: ClassVar[str]
    precision: ClassVar[str | None]
    calibrates: ClassVar[bool]
    needs: ClassVar[tuple[str, ...]]
    extra: ClassVar[str]

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write the new artifact under `context.workspace`; raises StepError, or DataError for bad calibration."""
