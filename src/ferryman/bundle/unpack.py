"""Unpack a .ferry file: take exactly the files that its manifest lists, and nothing that a tar could smuggle in."""

import hashlib
import os
import tarfile
import tempfile
from pathlib import Path

from ferryman.bundle.layout import ATTACHED_LIMIT_BYTES, MANIFEST, MANIFEST_LIMIT_BYTES
from ferryman.bundle.manifest import parse_manifest
from ferryman.bundle.swap import staged_folder
from ferryman.core.bundle import ATTACHED, FileEntry, Manifest
from ferryman.core.errors import BundleError

_CHUNK_BYTES = 1024 * 1024
_AGAIN = "copy it again from where it was packed"


def unpack(file: Path, *, into: Path | None = None) -> Path:
    """Unpack into a folder named by content below `into` (the user's cache by default); gives that folder.

    A folder that is there already is used again; the .ferry file is checked in full all the same.
    """
    try:
        with file.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:", errorlevel=2) as archive:
            return _take(archive, file, into or _cache_folder())
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise BundleError(f"{file} is not a whole .ferry file: {error}", hint=_AGAIN) from None
    except OSError as error:
        raise BundleError(f"{file} can't be read: {error.strerror or error}", hint=_AGAIN) from None


def _take(archive: tarfile.TarFile, file: Path, into: Path) -> Path:
    first = archive.next()
    if first is None or first.name != MANIFEST or not _is_plain(first):
        raise BundleError(f"{file} is not a .ferry file: it does not begin with {MANIFEST}", hint="ferryman pack")
    if first.size > MANIFEST_LIMIT_BYTES:
        raise BundleError(f"{file}: {MANIFEST} claims {first.size} bytes", hint="this is not a manifest")
    payload = _read(archive, first, file)
    manifest = parse_manifest(payload, origin=f"{file}: {MANIFEST}")
    attached, first = _take_attached(archive, file)
    about = b"".join(name.encode() + b"\0" + hashlib.sha256(attached[name]).digest() for name in sorted(attached))
    folder = into / hashlib.sha256(payload + about).hexdigest()  # the same bundle, signed anew, is another folder
    if (folder / MANIFEST).is_file():
        _take_members(archive, first, manifest, file, None)
        return folder
    with staged_folder(folder) as staged:
        for name, content in {MANIFEST: payload, **attached}.items():
            (staged / name).write_bytes(content)
        _take_members(archive, first, manifest, file, staged)
    return folder


def _take_attached(archive: tarfile.TarFile, file: Path) -> tuple[dict[str, bytes], tarfile.TarInfo | None]:
    """Read what is about the bundle and no part of it, which lies before its files; gives the first of those, too."""
    attached: dict[str, bytes] = {}
    while (member := archive.next()) is not None and member.name in ATTACHED:
        if member.name in attached or not _is_plain(member):
            raise BundleError(f"{file}: {member.name!r} is there twice, or no plain file", hint=_AGAIN)
        if member.size > ATTACHED_LIMIT_BYTES:
            raise BundleError(
                f"{file}: {member.name} claims {member.size} bytes", hint="nothing about a bundle is so long"
            )
        attached[member.name] = _read(archive, member, file)
    return attached, member


def _take_members(
    archive: tarfile.TarFile, member: tarfile.TarInfo | None, manifest: Manifest, file: Path, folder: Path | None
) -> None:
    """Check every member from `member` on, and write it below `folder` where one is given."""
    left = dict(manifest.files)
    while member is not None:
        entry = left.pop(member.name, None)
        _check_member(member, entry, manifest, file)
        stream = archive.extractfile(member)
        if entry is None or stream is None:
            raise BundleError(f"{file}: {member.name!r} can't be read", hint=_AGAIN)
        total, size = hashlib.sha256(), 0
        target = None if folder is None else folder / member.name
        if target is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
        with stream, open(target or os.devnull, "wb") as out:
            while chunk := stream.read(_CHUNK_BYTES):
                total.update(chunk)
                size += len(chunk)
                out.write(chunk)
        if size != entry.size:
            raise BundleError(f"{file} is truncated: {member.name} has {size} of {entry.size} bytes", hint=_AGAIN)
        if total.hexdigest() != entry.sha256:
            raise BundleError(f"{file}: {member.name} was changed: its digest is not the manifest's", hint=_AGAIN)
        member = archive.next()
    if left:
        raise BundleError(f"{file} is truncated: {min(left)} is missing", hint=_AGAIN)


def _check_member(member: tarfile.TarInfo, entry: FileEntry | None, manifest: Manifest, file: Path) -> None:
    if not _is_plain(member):
        raise BundleError(f"{file}: {member.name!r} is not a plain file", hint="links and devices are never unpacked")
    if entry is None:
        problem = "is there twice" if member.name in manifest.files else "is not listed in its manifest"
        raise BundleError(f"{file}: {member.name!r} {problem}", hint="this file was not packed by ferryman")
    if member.size != entry.size:
        raise BundleError(
            f"{file}: {member.name} claims {member.size} bytes; the manifest says {entry.size}", hint=_AGAIN
        )


def _is_plain(member: tarfile.TarInfo) -> bool:
    return member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo, file: Path) -> bytes:
    stream = archive.extractfile(member)
    payload = stream.read() if stream else b""
    if len(payload) != member.size:
        raise BundleError(f"{file} is truncated: {member.name} has {len(payload)} bytes", hint=_AGAIN)
    return payload


def _cache_folder() -> Path:
    """Give a folder that only this user can write: in the home folder, or else in the system's temporary one."""
    owner = os.getuid()
    for candidate in (*_home_caches(), Path(tempfile.gettempdir()) / f"ferryman-{owner}"):
        try:
            candidate.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = candidate.lstat()
        except OSError:
            continue
        is_ours = status.st_uid == owner and not status.st_mode & 0o022 and not candidate.is_symlink()
        if is_ours and os.access(candidate, os.W_OK):
            return candidate
    raise BundleError("there is no folder to unpack into", hint="unpack the .ferry file by hand: it is a tar")


def _home_caches() -> list[Path]:
    try:
        return [Path.home() / ".cache" / "ferryman"]
    except RuntimeError:  # a container's user may have neither HOME nor a line in the list of users
        return []
