"""A version of a model that answers requests."""

from dataclasses import dataclass, field

from ferryman.core.bundle import Bundle
from ferryman.server.data.job import Loaded
from ferryman.server.data.lane import Lane
from ferryman.server.data.tensors import TensorPlan


@dataclass(slots=True, eq=False)
class Served:
    """Hold a version of a model: its bundle, what its workers found, and the lane to them.

    `device` is what became of this device's own engine, in words; "" where none is asked for.
    """

    name: str
    version: str
    bundle: Bundle
    loaded: Loaded
    lane: Lane
    device: str = ""
    plan: TensorPlan = field(init=False)

    def __post_init__(self) -> None:
        self.plan = TensorPlan(self.loaded.signature)
