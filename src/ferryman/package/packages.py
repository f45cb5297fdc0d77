"""Lay packages out as a layer: wheels without what no server needs, and ferryman itself as it runs here."""

from collections.abc import Iterable, Mapping
from importlib.metadata import distribution
from pathlib import Path

import ferryman
from ferryman.core.errors import ImageError
from ferryman.oci.layer import Entry
from ferryman.package.elf import read_elf, trimmed
from ferryman.package.pyc import compile_source, compiled_name, running_tag
from ferryman.package.slim import NOT_COMPILED, OWN, WHEELS, is_left_out
from ferryman.package.wheel import Wheel, record_line, unpack_wheel

HOME = "opt/ferryman/site-packages"
_METADATA = ("METADATA", "WHEEL", "entry_points.txt")
_INSTALLER = b"ferryman\n"


def wheel_entries(wheels: Iterable[Wheel], folder: Path, *, compiled: bool) -> list[Entry]:
    """Unpack wheels below `folder` (which must outlive the entries), slim them, and give their files."""
    named: dict[str, Entry] = {}
    for wheel in wheels:
        home, names = unpack_wheel(wheel, folder / wheel.name)
        kept = _slimmed(folder / wheel.name, names)
        for entry in _with_record(folder / wheel.name, kept, home, compiled=compiled):
            held = named.setdefault(entry.name, entry)
            if held is not entry and _payload(held) != _payload(entry):
                raise ImageError(f"two packages bring {entry.name}, {wheel.name} is one", hint="leave one of them out")
    return list(named.values())


def own_entries(*, compiled: bool) -> list[Entry]:
    """Give ferryman's own files, from where it runs, with its metadata: the entry points are how plug-ins are found."""
    files = {name: file.read_bytes() for name, file in own_files().items()}
    found = distribution("ferryman")
    home = f"ferryman-{found.version}.dist-info"
    files |= {f"{home}/{name}": text.encode() for name in _METADATA if (text := found.read_text(name))}
    return _entries(files, home, compiled=compiled)


def own_files() -> dict[str, Path]:
    """Say which of ferryman's files an image holds, and where they lie."""
    root = Path(ferryman.__file__).resolve().parent
    named = {
        f"ferryman/{file.relative_to(root).as_posix()}": file for file in sorted(root.rglob("*")) if file.is_file()
    }
    return {name: file for name, file in named.items() if not is_left_out(name, OWN)}


def _slimmed(folder: Path, names: Iterable[str]) -> list[str]:
    """Apply the rules; then leave out bundled libraries that nothing which stays links."""
    kept = [name for name in names if not is_left_out(name, WHEELS)]
    bundled = {name.rpartition("/")[2]: name for name in kept if name.partition("/")[0].endswith(".libs")}
    linked: set[str] = set()
    left = [name for name in kept if name not in bundled.values()]
    while left:
        elf = read_elf(folder / left.pop())
        for needed in elf.needed if elf else ():
            if needed in bundled and needed not in linked:
                linked.add(needed)
                left.append(bundled[needed])
    return [name for name in kept if name not in bundled.values() or name.rpartition("/")[2] in linked]


def _with_record(folder: Path, kept: Iterable[str], home: str, *, compiled: bool) -> list[Entry]:
    files = {name: trimmed(folder / name) or (folder / name).read_bytes() for name in kept}
    return _entries(files, home, compiled=compiled)


def _entries(files: Mapping[str, bytes], home: str, *, compiled: bool) -> list[Entry]:
    files = {name: payload for name, payload in files.items() if name.rpartition("/")[2] != "RECORD"}
    files = {**files, f"{home}/INSTALLER": _INSTALLER}
    made = _compiled(files) if compiled else {}
    lines = [record_line(name, payload) for name, payload in sorted(files.items())]
    lines += [record_line(name, None) for name in sorted([*made, f"{home}/RECORD"])]
    record = {f"{home}/RECORD": ("\n".join(lines) + "\n").encode()}
    return [Entry(f"{HOME}/{name}", _mode(name), payload) for name, payload in {**files, **made, **record}.items()]


def _compiled(files: Mapping[str, bytes]) -> dict[str, bytes]:
    made = {}
    for name, payload in files.items():
        if is_left_out(name, NOT_COMPILED) or not name.endswith(".py"):
            continue
        if (code := compile_source(payload, f"{HOME}/{name}")) is not None:
            made[compiled_name(name, running_tag())] = code
    return made


def _mode(name: str) -> int:
    return 0o755 if name.endswith(".so") or ".so." in name else 0o644


def _payload(entry: Entry) -> bytes:
    return entry.content.read_bytes() if isinstance(entry.content, Path) else entry.content or b""
