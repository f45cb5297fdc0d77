"""Compile exported programs of torch to machine code for this kind of processor."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ferryman.core.artifact import Artifact, digest_file
from ferryman.core.errors import StepError
from ferryman.core.step import StepContext

_SIMD_BITS = {"x86-64-v3": 256, "x86-64-v4": 512}


@dataclass(frozen=True)
class ToAOTInductor:
    """Compile an exported program of torch, with AOTInductor and g++, to machine code for this kind of processor.

    `march` is the kind of processor: "native" for one like this machine's, "x86-64-v3" (AVX2) or "x86-64-v4" (AVX-512).
    `freeze` takes the weights for constants that kernels may lay out anew.
    """

    name: ClassVar[str] = "aotinductor"
    accepts: ClassVar[frozenset[str]] = frozenset({"torch-export"})
    produces: ClassVar[str] = "aotinductor"
    precision: ClassVar[str | None] = None
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("torch",)
    extra: ClassVar[str] = "torch"

    march: str = "native"
    freeze: bool = False

    def __post_init__(self) -> None:
        if self.march != "native" and self.march not in _SIMD_BITS:
            raise ValueError(f"march is '{self.march}'; it may be native, {', '.join(_SIMD_BITS)}")

    @property
    def on_machine(self) -> bool:
        """Tell whether the result is for this machine's processor."""
        return self.march == "native"

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write the package; raises StepError without a C++ compiler, or for what it can't compile.

        Equal bytes come out on one machine only: the compiler writes the place of torch's headers and cache into them.
        """
        from torch._inductor import aoti_compile_and_package, config

        from ferryman.export._torch import program

        _require_compiler(config.cpp.cxx)
        context.progress(self.name, note=f"compiles {source.path.name}: a minute or more")
        loaded = program.load(source.path)
        program.give_examples(loaded, source.signature)
        context.workspace.mkdir(parents=True, exist_ok=True)
        path, building = context.workspace / "model.pt2", context.workspace / "building"
        building.mkdir(exist_ok=True)
        try:
            with program.failures_told(self.name, "AOTInductor can't compile the program"), _quiet():
                # The package's folder inside is called as the file: the same name each time.
                made = building / "model.pt2"
                aoti_compile_and_package(loaded, package_path=str(made), inductor_configs=self._settings())
                content = program.repacked(made.read_bytes(), _without_source)
            program.write_whole(path, content)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        return replace(
            source,
            path=path,
            format="aotinductor",
            digest=digest_file(path),
            made_by=(*source.made_by, self.name),
            loader={},
        )

    def _settings(self) -> dict[str, Any]:  # of torch's inductor
        settings: dict[str, Any] = {
            "compile_threads": 1,  # else helper processes stay behind
            "cpp.dynamic_threads": True,  # else the number of cores here is written into the code
            "freezing": self.freeze,
            "aot_inductor.enable_line_tables": False,
            "aot_inductor.enable_frame_pointer": False,
        }
        if self.march != "native":
            settings |= {"cpp.march": self.march, "cpp.simdlen": _SIMD_BITS[self.march]}
        return settings


def _without_source(name: str, record: bytes) -> tuple[str, bytes] | None:
    """Leave out the C++ that the code was compiled from: it tells how and where, and differs each time."""
    return None if name.endswith(".cpp") else (name, record)


def _require_compiler(named: Any) -> None:  # torch's setting: candidates, None among them
    names = [name for name in (named if isinstance(named, tuple | list) else [named]) if name]
    if not any(shutil.which(name) for name in names):
        raise StepError(
            f"aotinductor: there is no C++ compiler ({', '.join(names)})",
            hint="install one (Debian: apt-get install g++), or name yours in the environment variable CXX",
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the compiler's notes about itself."""
    logger = logging.getLogger("torch")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
