"""What loads an artifact and answers tensors with tensors."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from ferryman.core.artifact import Artifact
from ferryman.core.cgroup import cpu_quota, whole_cores
from ferryman.core.signature import Array, Signature, Tensors


def available_cores() -> int:
    """Give the number of cores that this process may use: by its affinity, and by its control group's quota."""
    present = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return present if quota is None else min(present, whole_cores(quota))


class Session(Protocol):
    """Answer with one loaded model. Safe to call from several threads at once.

    A class attribute `releases_gil = True` says that other Python threads run during `infer`: then a server calls it
    from several at once. Where it is missing, a server starts more processes instead. One that reaches its engine in
    another process tells in an attribute `inference_s` what the engine itself took for the last answer.
    """

    signature: Signature

    def infer(self, inputs: Tensors) -> dict[str, Array]:
        """Give every output for checked inputs; raises InputError for what the engine refuses."""

    def close(self) -> None:
        """Free the model; no call may follow."""


class Runtime(Protocol):
    """Load artifacts of some formats. `serves` is False where it exists only to measure a source against.

    `targets` are the kinds of place where its formats run, in plain words ("server", "edge", "browser", "phone"):
    `build.targets` looks for a winner among them. Where it is empty, its formats are asked for by name alone.
    One whose files are programs, that run as they are loaded, has `runs_code = True`: it asks for the user's trust.
    """

    name: ClassVar[str]
    formats: ClassVar[frozenset[str]]
    needs: ClassVar[tuple[str, ...]]
    extra: ClassVar[str]
    serves: ClassVar[bool]
    targets: ClassVar[tuple[str, ...]]

    def load(self, artifact: Artifact, *, threads: int) -> Session:
        """Load `artifact`; `threads` is the number of cores that one call may use."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Name one intermediate tensor: the node that makes it, its operator, and the stages that feed it."""

    tensor: str
    node: str
    op: str
    feeds: tuple[str, ...] = ()


@runtime_checkable
class Tracer(Protocol):
    """Be a runtime that can show intermediate tensors, by the names they have in the source graph."""

    def stages(self, artifact: Artifact) -> list[Stage]:
        """List float tensors in topological order."""

    def trace(
        self, artifact: Artifact, inputs: Sequence[Tensors], tensors: Sequence[str]
    ) -> Iterator[dict[str, Array]]:
        """Give those of `tensors` that the artifact still has, for each of `inputs`."""
