"""What an image's packages must fit: the Python of its base, its C library and its machine."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.tags import Tag, compatible_tags, cpython_tags

from ferryman.core.errors import ImageError
from ferryman.oci.descriptor import Platform

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}  # OCI's word: Python's word
_OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_OLDEST = {"amd64": 5, "arm64": 17}


@dataclass(frozen=True, slots=True)
class Target:
    """Name a Python (3.11), a C library ("glibc" or "musl", with its version) and a machine ("amd64", "arm64")."""

    python: str
    libc: str
    libc_version: tuple[int, int]
    machine: str

    @property
    def platform(self) -> Platform:
        """Give it as images name it."""
        return Platform("linux", self.machine)

    @property
    def platforms(self) -> list[str]:
        """Give the platform tags of wheels that run there, the newest first (PEP 600 and 656)."""
        machine, (major, minor) = MACHINES[self.machine], self.libc_version
        if self.libc == "musl":
            return [f"musllinux_{major}_{lower}_{machine}" for lower in range(minor, 0, -1)]
        names = []
        for lower in range(minor, _OLDEST[self.machine] - 1, -1):
            names.append(f"manylinux_{major}_{lower}_{machine}")
            names += [f"{_OLD_NAMES[lower]}_{machine}"] if lower in _OLD_NAMES else []
        return [*names, f"linux_{machine}"]

    @property
    def is_this_python(self) -> bool:
        """Tell whether the running Python compiles for this one."""
        return self.python == f"{sys.version_info[0]}.{sys.version_info[1]}"

    def tags(self) -> Iterator[Tag]:
        """Give the tags of wheels that fit, the best first."""
        version = tuple(int(part) for part in self.python.split("."))
        yield from cpython_tags(version, platforms=self.platforms)
        yield from compatible_tags(version, interpreter=f"cp{self.python.replace('.', '')}", platforms=self.platforms)

    def environment(self) -> dict[str, str]:
        """Give what markers of requirements ask for (PEP 508)."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": MACHINES[self.machine],
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
            "extra": "",
        }


def check_machine(platform: Platform) -> str:
    """Give a platform's machine; raises ImageError for one that no packages are known for."""
    if platform.os != "linux" or platform.architecture not in MACHINES:
        raise ImageError(f"no image can be made for {platform}", hint="linux/amd64 and linux/arm64 are known")
    return platform.architecture
