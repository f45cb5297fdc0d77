"""The options that the static INT8 steps share, and the layers that they choose."""

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

from ferryman.core.errors import ConfigError, DataError, InputError, NotApplicable
from ferryman.core.signature import Signature, Tensors
from ferryman.optimize._graph import Layer, last_weighted, tail_of


@dataclass(frozen=True)
class StaticOptions:
    """Say how ranges are found and which layers stay in float; layers go by the names of the source's ONNX graph.

    `exclude_tail` keeps what follows the last weighted layer of each branch in float, `exclude_head` those layers too.
    """

    calibrators: ClassVar[tuple[str, ...]] = ("minmax", "entropy", "percentile", "mse")

    calibrator: str = "minmax"
    percentile: float = 99.99
    per_channel: bool = True
    exclude_nodes: tuple[str, ...] = ()
    exclude_ops: tuple[str, ...] = ()
    only_nodes: tuple[str, ...] = ()
    exclude_tail: bool = False
    exclude_head: bool = False
    min_samples: int = 32

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):  # as TOML and JSON have it
                object.__setattr__(self, field.name, tuple(value))
        check_choice("calibrator", self.calibrator, self.calibrators)
        if not 50 < self.percentile <= 100:
            raise ConfigError(f"percentile = {self.percentile}", hint="it must be over 50 and at most 100")
        if self.min_samples < 1:
            raise ConfigError(f"min_samples = {self.min_samples}", hint="calibration needs at least one sample")


@dataclass(frozen=True)
class QdqOptions(StaticOptions):
    """Say beside that which 8 bits activations get; weights have signed ones."""

    activation: str = "uint8"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("activation", self.activation, ("uint8", "int8"))


def check_choice(key: str, value: str, known: Sequence[str]) -> None:
    """Raise ConfigError unless `value` is one of `known`."""
    if value not in known:
        nearest = difflib.get_close_matches(value, known, n=1)
        meant = f"; did you mean '{nearest[0]}'?" if nearest else ""
        raise ConfigError(f"{key} = '{value}'{meant}", hint=f"known: {', '.join(known)}")


def check_not_negative(options: object, *names: str) -> None:
    """Raise ConfigError where one of these options is below 0."""
    for name in names:
        if getattr(options, name) < 0:
            raise ConfigError(f"{name} = {getattr(options, name)}", hint="it must be 0 or more")


def check_samples(calibration: Sequence[Tensors], least: int, signature: Signature, step: str) -> None:
    """Raise DataError unless there are `least` samples and the first fits the model."""
    if len(calibration) < least:
        raise DataError(
            f"{step} needs at least {least} calibration samples; there are {len(calibration)}",
            hint="add unlabelled inputs to [data] calibration, or lower min_samples and expect worse answers",
        )
    try:
        signature.check(calibration[0])
    except InputError as error:
        raise DataError(f"calibration sample 0 does not fit the model: {error}", hint=error.hint) from error


def choose(layers: Sequence[Layer], options: StaticOptions, known: Collection[str] | None, step: str) -> list[Layer]:
    """List the layers to quantize; raises ConfigError for a name not in `known`, StepError where none is left.

    `known` is None where the conversion has fused layers, so that a name may rightly be gone.
    """
    producers = {tensor: layer.name for layer in layers for tensor in layer.outputs}
    excluded = _resolve(options.exclude_nodes, producers, known, "exclude_nodes")
    only = _resolve(options.only_nodes, producers, known, "only_nodes")
    if options.exclude_tail or options.exclude_head:
        excluded |= tail_of(layers)
    if options.exclude_head:
        excluded |= last_weighted(layers)
    chosen = [
        layer
        for layer in layers
        if layer.kind
        and layer.name not in excluded
        and layer.op not in options.exclude_ops
        and (not options.only_nodes or layer.name in only)
    ]
    if not any(layer.is_weighted for layer in chosen):
        raise NotApplicable(
            f"{step}: nothing to quantize: of {len(layers)} layers, none with weights is left",
            hint="INT8 pays for convolutions and matrix products; trees and linear ML operators have none",
        )
    return chosen


def _resolve(names: Sequence[str], producers: dict[str, str], known: Collection[str] | None, option: str) -> set[str]:
    """Give the layers for names of layers or of their tensors."""
    for name in names:
        if known is not None and name not in known and name not in producers:
            nearest = difflib.get_close_matches(name, sorted(known), n=1)
            raise ConfigError(
                f"{option}: no layer or tensor is called '{name}'",
                hint=f"did you mean '{nearest[0]}'?" if nearest else "names are those of the ONNX graph",
            )
    return {producers.get(name, name) for name in names}
