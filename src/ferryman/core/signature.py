"""What goes into a model and what comes out: names, dtypes, shapes."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from ferryman.core.errors import InputError

Array = NDArray[np.generic]
Tensors = Mapping[str, Array]
Dimension = Annotated[int, Field(ge=0)] | str
"""A fixed size, or the name of one that varies ("batch")."""


def dtype_name(value: Array) -> str:
    """Give an array's dtype as a TensorSpec names it."""
    return "string" if value.dtype.kind in "OUS" else value.dtype.name


class TensorSpec(BaseModel):
    """Describe one tensor. `dtype` is numpy's name, or "string" for text (object arrays of str)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    dtype: str
    shape: tuple[Dimension, ...]

    @property
    def has_dynamic_batch(self) -> bool:
        """Tell whether the first dimension varies."""
        return bool(self.shape) and isinstance(self.shape[0], str)

    def fits(self, shape: Sequence[int]) -> bool:
        """Tell whether a tensor of this shape may be given."""
        return len(shape) == len(self.shape) and all(
            isinstance(want, str) or want == got for want, got in zip(self.shape, shape, strict=True)
        )

    def check(self, value: Array) -> None:
        """Raise InputError unless `value` has this dtype and a shape that fits."""
        dtype = dtype_name(value)
        if dtype != self.dtype:
            raise InputError(
                f"input '{self.name}' has dtype {dtype}; the model takes {self.dtype}",
                hint=f"convert it to {self.dtype} before sending it",
            )
        if not self.fits(value.shape):
            raise InputError(
                f"input '{self.name}' has shape {list(value.shape)}; the model takes {list(self.shape)}",
                hint="a name in the shape stands for any size, a number for exactly that size",
            )


class Signature(BaseModel):
    """Describe a model's inputs and outputs, in the model's own order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def max_batch(self) -> int | None:
        """Give the largest batch that one call takes; None where it is free."""
        fixed = [spec.shape[0] for spec in self.inputs if spec.shape and isinstance(spec.shape[0], int)]
        return min(fixed) if fixed else None

    def check(self, inputs: Tensors) -> None:
        """Raise InputError unless `inputs` has exactly the tensors that the model takes."""
        known = {spec.name for spec in self.inputs}
        if unknown := sorted(set(inputs) - known):
            raise InputError(f"no input is called '{unknown[0]}'", hint=f"this model takes {sorted(known)}")
        for spec in self.inputs:
            if spec.name not in inputs:
                raise InputError(f"input '{spec.name}' is missing", hint=f"this model takes {sorted(known)}")
            spec.check(inputs[spec.name])
