"""Say counts, values and tensors as callers write them: in JSON and the protocol's words, not in Python's."""

import json
from collections.abc import Iterable, Mapping, Sequence

from ferryman.core.errors import InputError
from ferryman.core.signature import Array, Signature, TensorSpec, dtype_name

DATATYPES = {
    "bool": "BOOL",
    **{f"{kind}{bits}": f"{kind.upper()}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
    "string": "BYTES",
}
_LONGEST = 60  # characters


def count(number: int, noun: str) -> str:
    """Say how many: "1 value", "3 values"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(names: Iterable[str]) -> str:
    """Say names one after the other, in quotes."""
    return ", ".join(f"'{name}'" for name in names)


def show(value: object) -> str:
    """Say a value as it came, in JSON, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def check_inputs(signature: Signature, inputs: Mapping[str, Array]) -> None:
    """Raise InputError unless `inputs` are exactly the tensors that a model takes."""
    known = {spec.name for spec in signature.inputs}
    if unknown := sorted(set(inputs) - known):
        raise InputError(f"no input is called '{unknown[0]}'", hint=f"this model takes {_described(signature)}")
    for spec in signature.inputs:
        if spec.name not in inputs:
            raise InputError(f"input '{spec.name}' is missing", hint=f"this model takes {_described(signature)}")
        _check(spec, inputs[spec.name])


def _check(spec: TensorSpec, array: Array) -> None:
    dtype = dtype_name(array)
    if dtype != spec.dtype:
        raise InputError(
            f"input '{spec.name}' is {DATATYPES.get(dtype, dtype)}; the model takes {DATATYPES.get(spec.dtype)}",
            hint=f"send it as {DATATYPES.get(spec.dtype)}",
        )
    if not spec.fits(array.shape):
        free = "-1 stands for any size" if any(isinstance(size, str) for size in spec.shape) else "exactly that"
        raise InputError(
            f"input '{spec.name}' has shape {list(array.shape)}; the model takes {shape_of(spec)}", hint=free
        )


def shape_of(spec: TensorSpec) -> Sequence[int]:
    """Give a tensor's shape as the protocol writes it: -1 is any size."""
    return [size if isinstance(size, int) else -1 for size in spec.shape]


def _described(signature: Signature) -> str:
    return ", ".join(f"'{spec.name}' {DATATYPES.get(spec.dtype)} {shape_of(spec)}" for spec in signature.inputs)
