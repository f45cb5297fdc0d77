"""Find the shared libraries that files link, as the system's loader would, by reading alone (ld.so(8))."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ferryman.package.elf import Elf, read_elf

_USUAL = ("lib64", "usr/lib64", "lib", "usr/lib")
_DEPTH = 8


@dataclass
class Libraries:
    """Look for libraries of one machine below `root`: `/`, or a folder that holds another system's files."""

    root: Path
    machine: str
    _folders: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        configured = _read_config(self.root, "etc/ld.so.conf", _DEPTH)
        triplets = [f"{folder}/{'x86_64' if self.machine == 'amd64' else 'aarch64'}-linux-gnu" for folder in _USUAL]
        self._folders = [self.root / name.lstrip("/") for name in (*configured, *triplets, *_USUAL)]

    def find(self, name: str, near: Path | None = None, elf: Elf | None = None) -> Path | None:
        """Give the file that the loader would take for a soname that `elf`, which lies at `near`, links."""
        own = [_expand(path, near, self.root) for path in elf.paths] if elf and near else []
        for folder in (*own, *self._folders):
            candidate = folder / name
            if candidate.is_file() and (found := read_elf(candidate)) and found.machine == self.machine:
                return candidate
        return None

    def closure(self, files: Iterable[Path]) -> tuple[dict[str, Path], dict[str, str]]:
        """Give every library that files link, directly or not, by soname; and what isn't there, with who wants it."""
        found: dict[str, Path] = {}
        missing: dict[str, str] = {}
        left = list(files)
        while left:
            file = left.pop()
            elf = read_elf(file)
            for name in elf.needed if elf else ():
                if name in found or name in missing:
                    continue
                place = self.find(name, file, elf)
                if place is None:
                    missing[name] = file.name
                else:
                    found[name] = place
                    left.append(place)
        return found, missing


def _expand(path: str, near: Path, root: Path) -> Path:
    if "$ORIGIN" in path or "${ORIGIN}" in path:
        return Path(path.replace("${ORIGIN}", str(near.parent)).replace("$ORIGIN", str(near.parent)))
    return root / path.lstrip("/")


def _read_config(root: Path, name: str, depth: int) -> Iterator[str]:
    try:
        lines = (root / name).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        words = line.partition("#")[0].split()
        if len(words) == 2 and words[0] == "include" and depth:
            for file in sorted(root.glob(words[1].lstrip("/"))):
                yield from _read_config(root, file.relative_to(root).as_posix(), depth - 1)
        elif len(words) == 1:
            yield words[0]
