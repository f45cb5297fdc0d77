"""A server's model in the place of a loaded one, for whoever asks it about tensors."""

from typing import Any

from ferryman.client._tensors import dtype_of
from ferryman.client.http import Client
from ferryman.core.errors import FerrymanError
from ferryman.core.signature import Array, Signature, Tensors, TensorSpec


class RemoteSession:
    """Answer tensors with tensors as core.runtime.Session does, by asking a server; its client stays the caller's."""

    def __init__(self, client: Client, model: str) -> None:
        self._client = client
        self._model = model
        metadata = client.metadata(model)
        try:
            self.task = _task_of(metadata)
            self.signature = Signature(inputs=_specs(metadata["inputs"]), outputs=_specs(metadata["outputs"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FerrymanError(
                f"the server's description of '{model}' can't be read: {error!r}", hint="does it speak the protocol V2?"
            ) from None

    @property
    def takes_tensors(self) -> bool:
        """Tell whether the model is asked with tensors alone: it says so, or says nothing of a task."""
        return self.task in ("", "tensor")

    def infer(self, inputs: Tensors) -> dict[str, Array]:
        """Ask the server; raises what `Client.infer_tensors` does."""
        return self._client.infer_tensors(self._model, inputs)

    def close(self) -> None:
        """Leave the client open: it is the caller's."""


def _task_of(metadata: dict[str, Any]) -> str:  # JSON
    return str((metadata.get("parameters") or {}).get("task", ""))


def _specs(tensors: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:  # JSON
    return tuple(
        TensorSpec(
            name=tensor["name"],
            dtype=dtype_of(tensor["datatype"]),
            shape=tuple("any" if size == -1 else size for size in tensor["shape"]),
        )
        for tensor in tensors
    )
