"""Have this kernel start programs of aarch64 with qemu for the length of a block, inside of containers, too."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PLACE = Path("/proc/sys/fs/binfmt_misc")
_MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"


@contextmanager
def aarch64_programs() -> Iterator[None]:
    """Register qemu as F: the kernel opens it now, so that containers need none of it. Needs root."""
    emulator = shutil.which("qemu-aarch64-static")
    assert emulator is not None
    if not (_PLACE / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(_PLACE)], check=True, timeout=30)
    name = f"ferryman-test-{os.getpid()}"
    (_PLACE / "register").write_text(f":{name}:M::{_MAGIC}:{_MASK}:{Path(emulator).resolve()}:F")
    try:
        yield
    finally:
        (_PLACE / name).write_text("-1")  # the kernel forgets it
