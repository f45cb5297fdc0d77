"""Take a wheel apart and believe nothing of it: every file is checked against the wheel's own list (PEP 427)."""

import base64
import csv
import hashlib
import io
import lzma
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path

from ferryman.core.errors import ImageError
from ferryman.oci.layer import check_entry_name

_AGAIN = "remove it and get it again"
_PLACED = ("purelib", "platlib")
_LARGEST_BYTES = 4 * 1000**3  # the largest that serves, of CUDA, has 1
_MOST_FILES = 200_000
_WITHOUT_DIGEST = ("RECORD", "RECORD.jws", "RECORD.p7s")
_DAMAGED = (KeyError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, csv.Error)
"""What `zipfile` and `csv` raise for a file that is damaged, encrypted or of another kind."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """Name a wheel's file, with the digest that it had when it came."""

    name: str
    version: str
    path: Path
    sha256: str

    @property
    def purl(self) -> str:
        """Give the package's URL as bills of materials name it."""
        return f"pkg:pypi/{self.name}@{self.version}"


def read_metadata(wheel: Wheel) -> Message:
    """Read a wheel's METADATA; raises ImageError for a file that is no wheel."""
    try:
        with zipfile.ZipFile(wheel.path) as archive:
            text = archive.read(f"{_home_of(archive, wheel)}/METADATA").decode("utf-8")
    except (OSError, *_DAMAGED) as error:
        raise ImageError(f"{wheel.path} is no readable wheel: {error}", hint=_AGAIN) from None
    return Parser().parsestr(text, headersonly=True)


def unpack_wheel(wheel: Wheel, folder: Path) -> tuple[str, list[str]]:
    """Write a wheel's modules below `folder`; gives the name of its .dist-info, and all files' names.

    Scripts and headers stay out. Raises ImageError for a file that its list doesn't have, or has otherwise.
    """
    if _digest(wheel.path) != wheel.sha256:
        raise ImageError(f"{wheel.path} was changed: its digest is not {wheel.sha256:.12}…", hint=_AGAIN)
    try:
        with zipfile.ZipFile(wheel.path) as archive:
            home = _home_of(archive, wheel)
            _bound(archive, wheel)
            listed = _read_record(archive.read(f"{home}/RECORD"))
            names = [_take(archive, member, listed, folder, wheel) for member in archive.infolist()]
    except _DAMAGED as error:
        raise ImageError(f"{wheel.path} is no whole wheel: {error}", hint=_AGAIN) from None
    return home, sorted(name for name in names if name)


def _bound(archive: zipfile.ZipFile, wheel: Wheel) -> None:
    """Refuse what would fill the disk; no file gives more bytes than its entry says (zipfile stops there)."""
    files = archive.infolist()
    total = sum(member.file_size for member in files)
    if total > _LARGEST_BYTES or len(files) > _MOST_FILES:
        raise ImageError(
            f"{wheel.path} would unpack to {total} bytes in {len(files)} files",
            hint=f"at most {_LARGEST_BYTES} bytes and {_MOST_FILES} files are taken: get it from somebody you trust",
        )


def record_line(name: str, payload: bytes | None) -> str:
    """Give a file's line of RECORD; what is made anew by every installer has no digest."""
    if payload is None:
        return f"{_quoted(name)},,"
    digest = base64.urlsafe_b64encode(hashlib.sha256(payload).digest()).decode().rstrip("=")
    return f"{_quoted(name)},sha256={digest},{len(payload)}"


def _take(archive: zipfile.ZipFile, member: zipfile.ZipInfo, listed: dict[str, str], folder: Path, wheel: Wheel) -> str:
    """Write one file where it belongs; gives its place, or "" for what has none in an image."""
    if member.is_dir():
        return ""
    name = check_entry_name(member.filename)
    is_listed = listed.get(name)
    if is_listed is None:
        raise ImageError(f"{wheel.path}: {name} is not in its RECORD", hint=_AGAIN)
    if not is_listed and not (name.endswith(tuple(f".dist-info/{one}" for one in _WITHOUT_DIGEST))):
        raise ImageError(f"{wheel.path}: its RECORD has no digest of {name}", hint=_AGAIN)
    place = _place(name)
    if not place:
        return ""
    target = folder / place
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, target.open("wb") as out:
        shutil.copyfileobj(source, out, 1024 * 1024)
    if is_listed and _digest(target, is_listed.partition("=")[0]) != _as_hex(is_listed):
        raise ImageError(f"{wheel.path}: {name} was changed: its digest is not the one in RECORD", hint=_AGAIN)
    target.chmod(0o755 if place.endswith(".so") or ".so." in place or member.external_attr >> 16 & 0o111 else 0o644)
    return place


def _place(name: str) -> str:
    head, _, rest = name.partition("/")
    if not head.endswith(".data"):
        return name
    scheme, _, inner = rest.partition("/")
    return inner if scheme in _PLACED else ""


def _home_of(archive: zipfile.ZipFile, wheel: Wheel) -> str:
    homes = {name.partition("/")[0] for name in archive.namelist() if name.partition("/")[0].endswith(".dist-info")}
    if len(homes) != 1:
        raise ImageError(f"{wheel.path} has {len(homes)} .dist-info folders", hint=_AGAIN)
    return homes.pop()


def _read_record(payload: bytes) -> dict[str, str]:
    rows = csv.reader(io.StringIO(payload.decode("utf-8")))
    return {row[0]: row[1] for row in rows if len(row) >= 2}


def _digest(path: Path, algorithm: str = "sha256") -> str:
    if algorithm not in ("sha256", "sha384", "sha512"):
        raise ValueError(f"a digest of kind {algorithm}")
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def _as_hex(listed: str) -> str:
    value = listed.partition("=")[2]
    return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex()


def _quoted(name: str) -> str:
    return f'"{name}"' if "," in name or '"' in name else name
