"""Keep images in a folder: an OCI image layout, as skopeo, podman and oras read and write it."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from ferryman.core.errors import ImageError
from ferryman.oci.blobs import Blobs, decode_json, encode_json, explain
from ferryman.oci.descriptor import INDEX, MANIFEST_LIMIT_BYTES, REF_NAME, Descriptor

_MARKER = "oci-layout"
_INDEX = "index.json"
_VERSION = {"imageLayoutVersion": "1.0.0"}
_NAMES = (REF_NAME, "io.containerd.image.name")


class Layout:
    """Name what lies in a folder's blobs; `create` makes one where none is, `open` wants one that is there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = Blobs(folder)

    @classmethod
    def create(cls, folder: Path) -> Self:
        """Make a layout, or use the one that is there; raises ImageError for a folder with anything else in it."""
        layout = cls(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            refuse_foreign(folder)
            if not (folder / _MARKER).exists():
                layout._write(_INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": []})
                layout._write(_MARKER, _VERSION)  # the last: a folder with it is a layout
        except OSError as error:
            raise explain(error, folder) from error
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Use a layout that is there; raises ImageError where it isn't one."""
        layout = cls(folder)
        if not (folder / _MARKER).is_file():
            raise ImageError(f"{folder} is no OCI layout: it has no {_MARKER}", hint="name a layout's folder")
        marker = layout._read(_MARKER)
        if not isinstance(marker, dict) or not str(marker.get("imageLayoutVersion")).startswith("1."):
            raise ImageError(f"{folder}: a layout of version {marker!r:.60}", hint="this ferryman reads versions 1.x")
        layout.manifests()
        return layout

    def manifests(self) -> list[Descriptor]:
        """List what the layout names, in its order."""
        raw = self._read(_INDEX)
        found = raw.get("manifests") if isinstance(raw, dict) else None
        if not isinstance(found, list):
            raise ImageError(f"{self.folder / _INDEX} lists no manifests", hint="this layout is damaged")
        return [Descriptor.from_json(one, origin=str(self.folder / _INDEX)) for one in found]

    def tag(self, descriptor: Descriptor, name: str = "") -> Descriptor:
        """Name a manifest; whatever had the name before loses it. Without a name it is only listed."""
        annotations = {key: value for key, value in descriptor.annotations.items() if key != REF_NAME}
        named = replace(descriptor, annotations={**annotations, REF_NAME: name} if name else annotations)
        with self._locked():
            others = [one for one in self.manifests() if not _is_replaced(one, named, name)]
            listed = [one.to_json() for one in (*others, named)]
            self._write(_INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": listed})
        return named

    def find(self, name: str = "") -> Descriptor:
        """Give a manifest by name or digest, or the only one; raises ImageError that lists the names."""
        found = self.manifests()
        if name.startswith("sha256:"):
            fits = [one for one in found if one.digest == name]
        else:
            fits = [one for one in found if not name or name in {one.annotations.get(key) for key in _NAMES}]
        digests = {one.digest for one in fits}
        if len(digests) == 1:
            return fits[0]
        names = ", ".join(sorted({one.annotations.get(REF_NAME, one.digest) for one in found})) or "nothing"
        what = f"nothing called {name!r}" if name else f"{len(digests)} images"
        hint = f"it holds {names}" if name or not digests else f"write {self.folder}:NAME, one of {names}"
        raise ImageError(f"{self.folder} holds {what}", hint=hint)

    def replace_index(self, payload: bytes) -> None:
        """Take another layout's index as it is; raises ImageError for what is none."""
        with self._locked():
            self._write(_INDEX, decode_json(payload, origin=_INDEX))
        self.manifests()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / _MARKER).open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)  # two that tag at once would each forget the other's
            yield

    def _read(self, name: str) -> Any:  # JSON
        path = self.folder / name
        try:
            with path.open("rb") as stream:
                payload = stream.read(MANIFEST_LIMIT_BYTES + 1)
        except OSError as error:
            raise explain(error, path) from error
        if len(payload) > MANIFEST_LIMIT_BYTES:
            raise ImageError(f"{path} has more than {MANIFEST_LIMIT_BYTES} bytes", hint="this layout is damaged")
        return decode_json(payload, origin=str(path))

    def _write(self, name: str, document: Any) -> None:  # JSON
        path = self.folder / name
        number, staged = tempfile.mkstemp(prefix=f".{name}.", dir=self.folder)
        try:
            with os.fdopen(number, "wb") as stream:
                stream.write(encode_json(document))
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(staged, 0o644)
            os.replace(staged, path)
        except OSError as error:
            Path(staged).unlink(missing_ok=True)
            raise explain(error, path) from error


def _is_replaced(held: Descriptor, named: Descriptor, name: str) -> bool:
    """Tell whether an entry goes when `named` comes: the one with its name, or the same manifest without a name."""
    if name:
        return held.annotations.get(REF_NAME) == name or (
            held.digest == named.digest and REF_NAME not in held.annotations
        )
    return held.digest == named.digest


def refuse_foreign(folder: Path) -> None:
    """Raise ImageError for a folder that holds anything but a layout, or what is hidden."""
    if not folder.is_dir() or (folder / _MARKER).exists():
        return
    if any(not child.name.startswith(".") for child in folder.iterdir()):
        raise ImageError(f"{folder} is there and is no OCI layout", hint="choose another place")


def split_place(text: str) -> tuple[Path, str]:
    """Split FOLDER, or FOLDER:NAME, into both; a folder that is there may have colons in it, and so may a name."""
    if Path(text).is_dir():
        return Path(text), ""
    parts = text.split(":")
    for count in range(1, len(parts)):
        folder = Path(":".join(parts[:count]))
        if parts[0] and folder.is_dir():
            return folder, ":".join(parts[count:])
    return Path(parts[0]), ":".join(parts[1:])
