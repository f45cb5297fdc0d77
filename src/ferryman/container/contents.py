"""Read what is in an image from its layers, as a stream, without running any of it."""

import json
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from ferryman.container.engine import Engine, EngineFailed
from ferryman.container.secrets import Leak, scan_env, scan_file, scan_history
from ferryman.core.errors import ImageError, UserError
from ferryman.oci.unlayer import BoundedInfo, is_plain_file

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_CAPABILITY = "SCHILY.xattr.security.capability"
_MOST_FILES = 2_000_000
_MOST_JSON_BYTES = 8 * 1024 * 1024
_CHUNK = 1024 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP = 31  # zlib's number for a gzip stream of the largest window


@dataclass(frozen=True, slots=True)
class Entry:
    """Hold what a tar says of one file; paths begin without a slash."""

    path: str
    mode: int
    is_file: bool
    size: int
    has_capability: bool = False


@dataclass(slots=True)
class Layer:
    """Hold one layer: its size as a tar and as gzip -1 packs it (0: not tried), its files, its secrets."""

    name: str
    size_bytes: int = 0
    gzip_bytes: int = 0
    entries: list[Entry] = field(default_factory=list)
    leaks: list[Leak] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Contents:
    """Hold what an image is made of; `files` are those that a container of it sees, `bundle` where its bundle lies."""

    layers: tuple[Layer, ...]
    config: dict[str, Any]  # JSON
    files: dict[str, Entry]
    leaks: tuple[Leak, ...]
    bundle: Path | None

    @property
    def size_mb(self) -> float:
        """Give the size of all layers, unpacked from compression, in 10^6 bytes."""
        return sum(layer.size_bytes for layer in self.layers) / 1e6

    @property
    def gzip_mb(self) -> float:
        """Give the size of all layers as gzip -1 packs them, in 10^6 bytes: about what a registry holds."""
        return sum(layer.gzip_bytes for layer in self.layers) / 1e6


def read_contents(engine: Engine, image: str, bundle_at: str, into: Path, *, compress: bool) -> Contents:
    """Stream an image out of the engine, as `read_stream` says."""
    with engine.saved(image) as stream:
        return read_stream(stream, bundle_at, into, compress=compress)


def read_stream(stream: IO[bytes], bundle_at: str, into: Path, *, compress: bool) -> Contents:
    """Read a docker archive once; files below `bundle_at` are kept, in the folder `into`.

    Raises EngineFailed where what comes is no whole image, UserError where the disk has no room for the bundle.
    """
    reader = _Reader(PurePosixPath(bundle_at.strip("/") or "bundle"), into, compress=compress)
    try:
        reader.read(stream)
        return reader.contents()
    except (ImageError, tarfile.TarError, zlib.error, EOFError, LookupError, ValueError, TypeError) as error:
        why = str(error) if isinstance(error, ImageError) else repr(error)
        raise EngineFailed(f"the image's layers can't be read: {why}", hint="can the engine `save` it?") from None
    except OSError as error:
        raise UserError(f"{into}: {error.strerror}", hint="make room there, or set TMPDIR") from None


class _Reader:
    def __init__(self, bundle_at: PurePosixPath, into: Path, *, compress: bool) -> None:
        self._bundle_at, self._into, self._compress = bundle_at, into, compress
        self._layers: dict[str, Layer] = {}
        self._links: dict[str, str] = {}
        self._documents: dict[str, Any] = {}  # JSON
        self._count = 0

    def read(self, stream: IO[bytes]) -> None:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=BoundedInfo) as archive:
            for member in archive:
                if member.issym() or member.islnk():
                    folder = PurePosixPath(member.name).parent
                    self._links[member.name] = _plain(
                        str(folder / member.linkname if member.issym() else member.linkname)
                    )
                elif member.isfile() and (content := archive.extractfile(member)) is not None:
                    self._take(member, content)

    def _take(self, member: tarfile.TarInfo, content: IO[bytes]) -> None:
        head = _Measured(content, compress=self._compress)
        start = head.peek(512)
        if start[:1] in (b"{", b"["):
            if member.size <= _MOST_JSON_BYTES:
                self._documents[member.name] = json.loads(head.read(-1))
        elif start[:2] == _GZIP_MAGIC or start[257:262] == b"ustar" or start == bytes(512):
            self._layers[member.name] = self._read_layer(member.name, head)

    def _read_layer(self, name: str, content: "_Measured") -> Layer:
        layer = Layer(name)
        source = content if content.peek(2) != _GZIP_MAGIC else _Measured(_Gunzip(content), compress=self._compress)
        with tarfile.open(fileobj=cast(IO[bytes], source), mode="r|", tarinfo=BoundedInfo) as tar:
            for member in tar:
                self._count += 1
                if self._count > _MOST_FILES:
                    raise ValueError(f"more than {_MOST_FILES} files")
                self._take_file(layer, tar, member)
        source.drain()
        layer.size_bytes, layer.gzip_bytes = source.size_bytes, source.finish()
        return layer

    def _take_file(self, layer: Layer, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = _plain(member.name)
        layer.entries.append(
            Entry(path, member.mode, is_plain_file(member), member.size, _CAPABILITY in (member.pax_headers or {}))
        )
        if not is_plain_file(member):
            return
        content = tar.extractfile(member)
        assert content is not None  # noqa: S101 - a plain file
        if PurePosixPath(path).is_relative_to(self._bundle_at):
            target = self._into / f"layer-{len(self._layers)}" / PurePosixPath(path).relative_to(self._bundle_at)
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                shutil.copyfileobj(content, file, _CHUNK)
        else:
            layer.leaks += scan_file(path, member.size, content)

    def contents(self) -> Contents:
        """Put the layers in their order, and one over the other."""
        manifest = self._documents["manifest.json"][0]
        names = [self._resolve(name) for name in manifest["Layers"]]
        layers = [self._layers[name] for name in names]
        config = self._documents[self._resolve(manifest["Config"])]
        places = list(self._layers)
        bundle = self._into / "bundle"
        for name, layer in zip(names, layers, strict=True):
            _lay_over(bundle, layer, self._into / f"layer-{places.index(name)}", self._bundle_at)
        leaks = [*scan_env((config.get("config") or {}).get("Env") or []), *scan_history(config.get("history") or [])]
        leaks += [leak for layer in layers for leak in layer.leaks]
        return Contents(
            tuple(layers), config, flatten(layers), tuple(leaks), bundle if (bundle / "bundle.json").is_file() else None
        )

    def _resolve(self, name: str) -> str:
        return self._links.get(name, name)


def flatten(layers: Sequence[Layer]) -> dict[str, Entry]:
    """Give the files that a container sees: later layers replace and hide (OCI image-spec, layer.md, whiteouts)."""
    files: dict[str, Entry] = {}
    for layer in layers:
        if hidden := set(_hidden(layer)):
            files = {path: entry for path, entry in files.items() if hidden.isdisjoint(_above(path))}
        files.update((entry.path, entry) for entry in layer.entries if not _is_whiteout(entry.path))
    return files


def _is_whiteout(path: str) -> bool:
    return path.rpartition("/")[2].startswith(_WHITEOUT)


def _above(path: str) -> Iterator[str]:
    """Yield a path and every folder that it is in, the root ("") last."""
    while path:
        yield path
        path = path.rpartition("/")[0]
    yield path


def _hidden(layer: Layer) -> Iterator[str]:
    for entry in layer.entries:
        folder, _, name = entry.path.rpartition("/")
        if name == _OPAQUE:
            yield folder
        elif name.startswith(_WHITEOUT):
            yield f"{folder}/{name.removeprefix(_WHITEOUT)}".lstrip("/")


def _lay_over(bundle: Path, layer: Layer, found: Path, bundle_at: PurePosixPath) -> None:
    """Bring the bundle's files to the state after this layer."""
    for hidden in map(PurePosixPath, _hidden(layer)):
        if bundle_at.is_relative_to(hidden):
            shutil.rmtree(bundle, ignore_errors=True)
        elif hidden.is_relative_to(bundle_at):
            target = bundle / hidden.relative_to(bundle_at)
            shutil.rmtree(target, ignore_errors=True)
            target.unlink(missing_ok=True)
    for file in sorted(found.rglob("*")) if found.is_dir() else []:
        if file.is_file() and not file.name.startswith(_WHITEOUT):
            target = bundle / file.relative_to(found)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)


def _plain(name: str) -> str:
    """Give a tar's path without what could lead out of its root."""
    parts: list[str] = []
    for part in PurePosixPath("/", name).parts[1:]:
        if part == "..":
            parts = parts[:-1]
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


class _Measured:
    """Read a stream once, counting its bytes and how many gzip makes of them."""

    def __init__(self, stream: Any, *, compress: bool) -> None:  # anything with read
        self._stream, self._ahead = stream, b""
        # Its fastest level: registries get a tenth less, and reading goes three times as fast as with theirs.
        self._gzip = zlib.compressobj(1, zlib.DEFLATED, _GZIP) if compress else None
        self._packed = self.size_bytes = 0

    def peek(self, size: int) -> bytes:
        while len(self._ahead) < size and (more := self._stream.read(size - len(self._ahead))):
            self._ahead += more
        return self._ahead[:size]

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            taken = self._ahead + bytes(self._stream.read())
            self._ahead = b""
        elif self._ahead:
            taken, self._ahead = self._ahead[:size], self._ahead[size:]
        else:
            taken = bytes(self._stream.read(size))
        if self._gzip is not None:
            self._packed += len(self._gzip.compress(taken))
        self.size_bytes += len(taken)
        return taken

    def drain(self) -> None:
        while self.read(_CHUNK):
            pass

    def finish(self) -> int:
        return self._packed + len(self._gzip.flush()) if self._gzip is not None else 0


class _Gunzip:
    """Unpack a gzip stream piece by piece, never more than was asked for."""

    def __init__(self, stream: _Measured) -> None:
        self._stream, self._inflate = stream, zlib.decompressobj(_GZIP)

    def read(self, size: int = _CHUNK) -> bytes:
        taken = b""
        while not taken and not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._stream.read(_CHUNK)
            if not packed:
                raise EOFError("a layer ends early")
            taken = self._inflate.decompress(packed, size)
        return taken
