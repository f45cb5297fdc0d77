"""An edge box: one archive with Python, packages, bundle, units and a script that installs it without a network."""

import gzip
import hashlib
import os
import platform as machine_of
import tarfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, ClassVar

from pydantic import Field

from ferryman.bundle.pack import pack
from ferryman.bundle.read import load_bundle
from ferryman.core.errors import ConfigError, UserError
from ferryman.core.progress import Progress
from ferryman.core.target import Change, Files, Landing, Standing, TargetSection
from ferryman.oci.descriptor import Platform
from ferryman.oci.image import read_image
from ferryman.oci.layout import Layout
from ferryman.package.run import package_bundle
from ferryman.package.settings import PackageSettings
from ferryman.package.target import MACHINES
from ferryman.targets.edge_files import AGENT, SERVER, SOCKET, box_toml, install_script

_UNAME = {"amd64": "x86_64 | amd64", "arm64": "aarch64 | arm64"}
_SHORT = 16
_OURS = {word: name for name, word in MACHINES.items()}


class Edge(TargetSection):
    """Install on boxes by an archive that holds everything, and let each follow its fleet's releases."""

    name: ClassVar[str] = "edge"
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""

    platform: Annotated[str, Field(pattern=r"^linux/(amd64|arm64)$")] = Field(
        f"linux/{_OURS.get(machine_of.machine(), 'amd64')}", description="What the boxes are; this machine by default."
    )
    output: str = Field("dist", description="Folder of the archive.")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(8080, description="Where a box answers, on every address.")
    fleet: str = Field("", description="The fleet whose releases a box follows; none where it is empty.")
    releases: str = Field("", description="Where those lie: HOST/NAME:TAG.")
    keys: tuple[str, ...] = Field((), description="Public keys that releases are believed from.")
    wheels: str = Field("", description="Folder with the packages' wheels; from the network where it is empty.")
    cache: str = Field("", description="Folder of the layers' cache; ~/.cache/ferryman by default.")

    def render(self, landing: Landing) -> Files:
        """Give the units, the settings and the script; the runtime's digest is known once it is made."""
        keys = [Path(key).name for key in self.keys]
        fleet, releases = self.fleet or landing.name, self.releases or "registry.invalid/none:none"
        machine = self.platform.partition("/")[2]
        agent = AGENT if self.fleet else AGENT.partition("[Install]")[0]  # without a fleet there is nothing to follow
        return {
            "box.toml": box_toml(fleet, releases, keys or ["release.pub"], self.port),
            "install.sh": install_script(_UNAME[machine], self.platform),
            "units/ferryman-agent.service": agent,
            "units/ferryman-edge.service": SERVER.replace("@MEMORY@", str(landing.memory_mb)),
            "units/ferryman-edge.socket": SOCKET.replace("@ADDRESS@", str(self.port)),
        }  # fmt: skip

    def apply(self, landing: Landing, *, dry_run: bool, progress: Progress) -> list[Change]:
        """Write the archive: the same parts give the same bytes."""
        if landing.folder is None:
            raise ConfigError("the edge target carries a bundle's files", hint="name the bundle, not only an image")
        place = self._archive(landing.name)
        if dry_run:
            return [Change("change" if place.exists() else "create", str(place))]
        with TemporaryDirectory(prefix="ferryman-edge-") as scratch:
            folder = Path(scratch) / place.name.removesuffix(".tar.gz")
            self._gather(landing, landing.folder, folder, progress)
            progress(f"write {place}")
            made = Path(scratch) / place.name
            _write_archive(folder, made)
            before = place.read_bytes() if place.exists() else b""
            if before and hashlib.sha256(before).digest() == hashlib.sha256(made.read_bytes()).digest():
                return [Change("keep", str(place))]
            _put(made, place)
        return [Change("change" if before else "create", str(place), f"{place.stat().st_size / 1e6:.1f} MB")]

    def status(self, name: str) -> Standing:
        """Tell whether the archive is there; how the boxes are, `ferryman fleet status` tells."""
        place = self._archive(name)
        note = (f"{place}: {place.stat().st_size / 1e6:.1f} MB",) if place.exists() else ()
        return Standing(name, place.exists(), int(place.exists()), 1, notes=note)

    def logs(self, name: str, *, lines: int) -> Iterator[str]:
        """Raise ConfigError: boxes keep their own logs."""
        raise ConfigError("boxes keep their own logs", hint="journalctl -u ferryman-edge on the box")

    def remove(self, name: str, *, dry_run: bool, progress: Progress) -> list[Change]:
        """Remove the archive; boxes that were installed from it are not touched."""
        place = self._archive(name)
        if not place.exists():
            return []
        if not dry_run:
            place.unlink()
        return [Change("remove", str(place))]

    def _archive(self, name: str) -> Path:
        return Path(self.output) / f"{name}-edge-{self.platform.partition('/')[2]}.tar.gz"

    def _gather(self, landing: Landing, bundle: Path, folder: Path, progress: Progress) -> None:
        """Lay out what the archive holds: the image's layers but the bundle's, which travels by itself."""
        cache = (
            Path(self.cache)
            if self.cache
            else Path(os.environ.get("FERRYMAN_CACHE") or Path.home() / ".cache" / "ferryman")
        )
        settings = PackageSettings(
            tag=f"localhost/{landing.name}:edge", output=folder.with_name("layout"), platforms=(self.platform,),
            extras=("sign",), wheels=Path(self.wheels) if self.wheels else None,
        )  # fmt: skip
        package_bundle(load_bundle(bundle), settings, cache=cache, progress=progress)
        layout = Layout.open(folder.with_name("layout"))
        image = read_image(layout.blobs, layout.find(), Platform.parse(self.platform))
        layers = image.layers[:-1]
        (folder / "layers").mkdir(parents=True)
        for number, layer in enumerate(layers):
            os.link(layout.blobs.path(layer.digest), folder / "layers" / f"{number}.tar.gz")
        for key in self.keys:
            _copy_key(Path(key), folder / "keys" / Path(key).name)
        pack(bundle, folder / "bundle.ferry")
        files = self.render(landing)
        parts = [*(layer.digest for layer in layers), *(files[name] for name in sorted(files) if name != "box.toml")]
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_SHORT]
        for name, text in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text.replace("@DIGEST@", digest), encoding="utf-8")
        lines = [f"{_digest(file)}  {file.relative_to(folder).as_posix()}\n" for file in _files(folder)]
        (folder / "SHA256SUMS").write_text("".join(line for line in lines if not line.endswith("install.sh\n")))


def _copy_key(key: Path, place: Path) -> None:
    place.parent.mkdir(exist_ok=True)
    try:
        place.write_bytes(key.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"key {key} can't be read: {error.strerror}", hint="ferryman sign --new-key makes one"
        ) from None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write_archive(folder: Path, place: Path) -> None:
    """Pack a folder; layers are packed already, so that more would only take time."""
    with (
        place.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for file in _files(folder):
            member = tarfile.TarInfo(f"{folder.name}/{file.relative_to(folder).as_posix()}")
            member.size, member.mode = file.stat().st_size, 0o755 if file.suffix == ".sh" else 0o644
            with file.open("rb") as stream:
                tar.addfile(member, stream)


def _put(made: Path, place: Path) -> None:
    """Copy the archive beside its place and rename it."""
    unfinished = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            unfinished.write_bytes(made.read_bytes())
            unfinished.replace(place)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"{place} can't be written: {error.strerror}", hint="free space, or name another place"
        ) from None
