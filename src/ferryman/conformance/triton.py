"""What the checks with tritonclient's four clients have in common."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ferryman.conformance.broken import NotTried, expect
from ferryman.conformance.case import Case
from ferryman.conformance.clients import Module
from ferryman.conformance.tensors import Tensor, compare

# What a server says that doesn't offer something, or not to this caller, by HTTP status and by gRPC status.
_REFUSALS = (
    "400", "401", "403", "404", "405", "415", "422", "501", "StatusCode.UNIMPLEMENTED", "StatusCode.INVALID_ARGUMENT",
    "StatusCode.UNAUTHENTICATED", "StatusCode.PERMISSION_DENIED",
)  # fmt: skip


def is_dialect_of_grpc(module: Module) -> bool:
    """Tell tritonclient's gRPC modules from those for HTTP."""
    return ".grpc" in str(module.__name__)


def inputs_of(case: Case, module: Module, *, is_binary: bool = True) -> list[Any]:  # InferInput
    """Give the case's inputs as the client takes them."""
    inputs = []
    for tensor in case.inputs:
        one = module.InferInput(tensor.name, tensor.shape, tensor.datatype)
        if is_dialect_of_grpc(module):
            one.set_data_from_numpy(tensor.array)
        else:
            one.set_data_from_numpy(tensor.array, binary_data=is_binary)
        inputs.append(one)
    return inputs


def outputs_of(names: Iterable[str], module: Module, *, is_binary: bool = True) -> list[Any]:  # InferRequestedOutput
    """Ask for outputs by name."""
    if is_dialect_of_grpc(module):
        return [module.InferRequestedOutput(name) for name in names]
    return [module.InferRequestedOutput(name, binary_data=is_binary) for name in names]


def compare_result(case: Case, result: Any, *, way: str, names: Sequence[str] | None = None) -> None:  # InferResult
    """Raise Broken unless a client's result is the answer that the case wants."""
    wanted = {name: case.wanted[name] for name in (case.wanted if names is None else names)}
    got = {}
    for name, one in wanted.items():
        array = result.as_numpy(name)
        expect(array is not None, f"{way}: no output '{name}'")
        if one.datatype == "BYTES":
            texts = [text.encode() if isinstance(text, str) else bytes(text) for text in array.ravel().tolist()]
            array = np.array(texts, object).reshape(array.shape)
        got[name] = Tensor(name, one.datatype, array)
    compare(wanted, got, way=way)


def or_refused(ask: Callable[[], Any]) -> Any:  # whatever the client gives
    """Give what `ask` does; raises NotTried where the server says that it doesn't offer this."""
    from tritonclient.utils import InferenceServerException

    try:
        return ask()
    except InferenceServerException as error:
        if str(error.status()) in _REFUSALS:
            raise NotTried(f"the server doesn't offer it: {error}") from None
        raise


def expect_refused(ask: Callable[[], object], *, statuses: Sequence[str]) -> None:
    """Raise Broken unless the client reports one of these statuses."""
    from tritonclient.utils import InferenceServerException

    try:
        ask()
    except InferenceServerException as error:
        expect(str(error.status()) in statuses, f"status {error.status()}, not {' or '.join(statuses)}: {error}")
        return
    expect(False, "it is answered as if it were right")
