"""Run torch models with torch itself: what an imported model is measured against."""

import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar
from zipfile import BadZipFile

import numpy as np

from ferryman.core.artifact import Artifact
from ferryman.core.errors import InputError, SourceError
from ferryman.core.factory import load_factory
from ferryman.core.runtime import Session
from ferryman.core.signature import Array, Signature, Tensors

_Call = Callable[[list[Any]], Any]  # torch tensors to what the module returns


class TorchRuntime:
    """Load exported programs, TorchScript and factory-made modules on the CPU, in float32 as trained."""

    name: ClassVar[str] = "torch"
    formats: ClassVar[frozenset[str]] = frozenset({"torch-export", "torchscript", "torch-weights"})
    needs: ClassVar[tuple[str, ...]] = ("torch",)
    extra: ClassVar[str] = "torch"
    serves: ClassVar[bool] = False
    targets: ClassVar[tuple[str, ...]] = ()

    def load(self, artifact: Artifact, *, threads: int) -> Session:
        """Load the model in evaluation mode; raises SourceError where torch can't."""
        loaders = {"torch-export": _load_program, "torchscript": _load_torchscript, "torch-weights": _load_weights}
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", category=DeprecationWarning)
                warnings.filterwarnings("ignore", category=FutureWarning)
                call = loaders[artifact.format](artifact)
        except (RuntimeError, ValueError, KeyError, OSError, EOFError, BadZipFile) as error:
            raise SourceError(f"torch can't load {artifact.path}: {error}", hint="open the source again") from error
        return _TorchSession(artifact.signature, call, threads)


class _TorchSession:
    """Call a torch module with arrays."""

    def __init__(self, signature: Signature, call: _Call, threads: int) -> None:
        self.signature = signature
        self._call: _Call | None = call
        self._threads = threads
        self._lock = threading.Lock()  # torch's thread count is the process's

    def infer(self, inputs: Tensors) -> dict[str, Array]:
        """Give the module's tensors in the signature's order."""
        import torch
        from torch.utils import _pytree as pytree

        if self._call is None:
            raise InputError("this session is closed", hint="load the model again")
        self.signature.check(inputs)
        tensors = [torch.from_numpy(np.array(inputs[spec.name])) for spec in self.signature.inputs]
        with self._lock, torch.no_grad():
            before = torch.get_num_threads()
            torch.set_num_threads(max(self._threads, 1))
            try:
                answer = self._call(tensors)
            except (RuntimeError, AssertionError, ValueError, IndexError) as error:
                raise InputError(f"torch refuses the inputs: {error}", hint="check their shapes") from error
            finally:
                torch.set_num_threads(before)
        leaves = [leaf for leaf in pytree.tree_leaves(answer) if leaf is not None]
        return {spec.name: leaf.detach().numpy() for spec, leaf in zip(self.signature.outputs, leaves, strict=True)}

    def close(self) -> None:
        """Free the module."""
        self._call = None


def _load_program(artifact: Artifact) -> _Call:
    import torch
    from torch.utils import _pytree as pytree

    with artifact.path.open("rb") as stream:  # of a path, torch wants the name to end in .pt2
        program = torch.export.load(stream)
    module = program.module()

    def call(tensors: list[Any]) -> Any:  # torch tensors to what the module returns
        positional, named = pytree.tree_unflatten(tensors, program.call_spec.in_spec)
        return module(*positional, **named)

    return call


def _load_torchscript(artifact: Artifact) -> _Call:
    import torch

    module = torch.jit.load(str(artifact.path), map_location="cpu").eval()
    return lambda tensors: module(*tensors)


def _load_weights(artifact: Artifact) -> _Call:
    import torch

    module = load_factory(artifact.loader["factory"], Path(artifact.loader["folder"]))()
    if artifact.loader["weights"] == "safetensors":
        from safetensors.torch import load_file

        state = load_file(artifact.path)
    else:
        state = torch.load(artifact.path, map_location="cpu", weights_only=True)
        state = next((state[key] for key in ("state_dict", "model_state_dict") if key in state), state)
    module.load_state_dict(state)
    module.eval()
    return lambda tensors: module(*tensors)
