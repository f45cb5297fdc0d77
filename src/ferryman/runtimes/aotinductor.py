"""Run what AOTInductor compiled: machine code for one kind of processor."""

import json
import platform
import threading
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ferryman.core.artifact import Artifact
from ferryman.core.errors import InputError, SourceError
from ferryman.core.runtime import Session
from ferryman.core.signature import Array, Signature, Tensors

_CAPABILITIES = {
    "AVX2": "avx2",
    "AVX512": "avx512_f",
    "AVX512_VNNI": "avx512_vnni",
    "AVX512_BF16": "avx512_bf16",
    "AMX_TILE": "amx_tile",
}
"""How torch calls a processor's abilities: in a package, and of this machine."""


class AOTInductorRuntime:
    """Load packages that AOTInductor compiled for this kind of processor."""

    name: ClassVar[str] = "aotinductor"
    formats: ClassVar[frozenset[str]] = frozenset({"aotinductor"})
    needs: ClassVar[tuple[str, ...]] = ("torch",)
    extra: ClassVar[str] = "torch"
    serves: ClassVar[bool] = False
    targets: ClassVar[tuple[str, ...]] = ()
    runs_code: ClassVar[bool] = True

    def load(self, artifact: Artifact, *, threads: int) -> Session:
        """Load the package; raises SourceError for a damaged one, or one for a processor that this machine hasn't."""
        _require_processor(artifact.path)
        from torch._inductor import aoti_load_package

        try:
            # A lone path: what is not a package is looked at twice otherwise, with a warning in between.
            package = aoti_load_package(str(artifact.path))
        except (RuntimeError, OSError, ValueError, KeyError) as error:
            raise SourceError(f"torch can't load {artifact.path}: {error}", hint="build it again") from error
        return _PackageSession(artifact.signature, package, threads)


class _PackageSession:
    """Call a compiled model with arrays."""

    def __init__(self, signature: Signature, package: Any, threads: int) -> None:  # torch's AOTICompiledModel
        self.signature = signature
        self._package = package
        self._threads = threads
        self._lock = threading.Lock()  # torch's thread count is the process's

    def infer(self, inputs: Tensors) -> dict[str, Array]:
        """Give the outputs in the signature's order."""
        import torch

        if self._package is None:
            raise InputError("this session is closed", hint="load the model again")
        self.signature.check(inputs)
        tensors = [torch.from_numpy(np.array(inputs[spec.name], order="C")) for spec in self.signature.inputs]
        with self._lock, torch.no_grad():
            before = torch.get_num_threads()
            torch.set_num_threads(max(self._threads, 1))
            try:
                answer = self._package.loader.boxed_run(tensors)
            except RuntimeError as error:
                raise InputError(
                    f"the compiled model refuses the inputs: {error}", hint="check their shapes"
                ) from error
            finally:
                torch.set_num_threads(before)
        return {spec.name: leaf.numpy().copy() for spec, leaf in zip(self.signature.outputs, answer, strict=True)}

    def close(self) -> None:
        """Free the model."""
        self._package = None


def _require_processor(path: Path) -> None:
    """Raise SourceError where the code would stop the process: it was compiled for what this machine hasn't."""
    import torch

    try:
        with zipfile.ZipFile(path) as package:
            notes = [name for name in package.namelist() if name.endswith("_metadata.json")]
            wanted = json.loads(package.read(notes[0])) if notes else {}
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise SourceError(f"{path} is no package of AOTInductor: {error}", hint="build it again") from error
    machine, isa = wanted.get("AOTI_MACHINE", ""), wanted.get("AOTI_CPU_ISA", "").split()
    there = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    lacking = [name for name in isa if there and not there.get(_CAPABILITIES.get(name, ""), True)]
    if not wanted or machine != platform.machine() or lacking:
        raise SourceError(
            f"{path} was compiled for {machine or 'no known machine'} with {', '.join(isa) or 'nothing more'}; "
            f"this is {platform.machine()}" + (f" without {', '.join(lacking)}" if lacking else ""),
            hint="build it on a machine like the one that runs it, or with build.options.aotinductor.march",
        )
