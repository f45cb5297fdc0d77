"""Put an image together: base, packages, ferryman and bundle, and the config by which it is started."""

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from importlib.metadata import metadata
from typing import cast

from ferryman import __version__
from ferryman.core.artifact import digest_file, files_of
from ferryman.core.bundle import Bundle
from ferryman.core.errors import ConfigError
from ferryman.core.progress import Progress
from ferryman.core.scratch import scratch_folder
from ferryman.oci.descriptor import Descriptor
from ferryman.oci.image import ImageConfig, write_image
from ferryman.oci.layer import Entry, Layer
from ferryman.package.base import Base
from ferryman.package.contents import CONTENTS, Component, licence_of
from ferryman.package.elf import read_elf
from ferryman.package.needs import closure, roots_of
from ferryman.package.packages import HOME, own_entries, own_files, wheel_entries
from ferryman.package.python import USER
from ferryman.package.settings import OWN_BASE, PackagedImage, PackageSettings, Part
from ferryman.package.store import Store
from ferryman.package.target import Target
from ferryman.package.wheel import Wheel, read_metadata

BUNDLE = "bundle"
PORT = 8080
_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Parts:
    """Hold what an image is put together from."""

    bundle: Bundle
    base: Base
    wheels: tuple[Wheel, ...]
    store: Store
    progress: Progress


def versions_of(bundle: Bundle, target: Target, settings: PackageSettings) -> tuple[dict[str, str], list[str]]:
    """Give the packages of an image with their versions, and what there is to say of them."""
    roots = roots_of(bundle, extras=settings.extras, opencv=settings.opencv)
    verified = closure(roots, bundle.versions, target)
    here = closure(roots, {}, target)
    notes = [
        f"{name} {version} goes in, with which the bundle was verified; {here[name]} is installed here"
        for name, version in verified.items()
        if here.get(name, version) != version
    ]
    if (built := bundle.versions.get("ferryman", __version__)) != __version__:
        notes.append(f"the bundle was verified by ferryman {built}; {__version__}, which runs here, goes in")
    return verified, notes


def compose(parts: Parts, notes: Iterable[str] = ()) -> tuple[Descriptor, PackagedImage]:
    """Write an image into the store; what was made before of the same parts is used again."""
    contents = _contents(parts)
    layers = {
        **{f"base {number}": layer for number, layer in enumerate(parts.base.layers, start=1)},
        "packages": _packages(parts),
        "ferryman": _ferryman(parts, contents),
        "bundle": _bundle(parts),
    }
    about = about_bundle(parts.bundle, parts.base)
    descriptor = write_image(
        parts.store.blobs, image_config(parts.base, about), list(layers.values()),
        platform=parts.base.target.platform, annotations=about,
    )  # fmt: skip
    listed = tuple(
        Part(
            name, layer.descriptor.digest, layer.descriptor.size, layer.size_unpacked,
            layer.descriptor.digest in parts.store.made,
        )
        for name, layer in layers.items()
    )  # fmt: skip
    image = PackagedImage(
        platform=str(parts.base.target.platform),
        digest=descriptor.digest,
        base=parts.base.name or OWN_BASE,
        python=parts.base.target.python,
        parts=listed,
        contents=contents,
        notes=(*notes, *_unlinked(parts)),
    )
    return descriptor, image


def _packages(parts: Parts) -> Layer:
    key = [[wheel.name, wheel.version, wheel.sha256] for wheel in parts.wheels]
    python = sys.version if parts.base.target.is_this_python else ""  # who compiles

    def make() -> list[Entry]:
        parts.progress("unpack wheels", total=len(parts.wheels))
        parts.store.folder.mkdir(parents=True, exist_ok=True)
        with scratch_folder(parts.store.folder, prefix="unpacked-") as scratch:
            entries = wheel_entries(parts.wheels, scratch, compiled=parts.base.target.is_this_python)
        parts.store.keep("links", key, _links(entries))
        parts.progress("pack the layer of packages")
        return entries

    return parts.store.layer("packages", [key, python], make)


def _links(entries: Iterable[Entry]) -> dict[str, str]:
    """Give the libraries that packages link and don't bring, each with a file that wants it."""
    files = {entry.name: entry.content for entry in entries if ".so" in entry.name and entry.content}
    have = {name.rpartition("/")[2] for name in files}
    wanted: dict[str, str] = {}
    for name, content in files.items():
        elf = read_elf(content)
        for needed in elf.needed if elf else ():
            if needed not in have:
                wanted.setdefault(needed, name.removeprefix(f"{HOME}/"))
    return wanted


def _unlinked(parts: Parts) -> list[str]:
    """Say which libraries nobody brings: what links them fails if it is ever loaded."""
    key = [[wheel.name, wheel.version, wheel.sha256] for wheel in parts.wheels]
    wanted = parts.store.find("links", key) or {}
    return [
        f"{file} links {name}, which neither the base nor a package brings"
        for name, file in wanted.items()
        if name not in parts.base.libraries
    ]


def _ferryman(parts: Parts, contents: Iterable[Component]) -> Layer:
    listed = json.dumps([one.to_json() for one in contents], indent=1, sort_keys=True).encode() + b"\n"
    files = {name: digest_file(file) for name, file in own_files().items()}
    python = sys.version if parts.base.target.is_this_python else ""

    def make() -> list[Entry]:
        return [*own_entries(compiled=parts.base.target.is_this_python), Entry(CONTENTS, content=listed)]

    return parts.store.layer("ferryman", [files, listed.decode(), __version__, python], make)


def _bundle(parts: Parts) -> Layer:
    root = parts.bundle.path
    files = {file.relative_to(root).as_posix(): file for file in files_of(root)}
    key = [[name, digest_file(file)] for name, file in files.items()]
    return parts.store.layer(
        "bundle", key, lambda: [Entry(f"{BUNDLE}/{name}", content=file) for name, file in files.items()]
    )


def _contents(parts: Parts) -> tuple[Component, ...]:
    found = [*parts.base.contents]
    for wheel in parts.wheels:
        key = [wheel.name, wheel.version, wheel.sha256]
        licence = parts.store.value("licence", key, lambda wheel=wheel: licence_of(read_metadata(wheel)))  # type: ignore[misc]  # bound per round
        found.append(Component(wheel.name, wheel.version, "package", licence, wheel.purl, wheel.sha256))
    own = licence_of(cast(Message, metadata("ferryman")))
    found.append(Component("ferryman", __version__, "package", own, f"pkg:pypi/ferryman@{__version__}"))
    return tuple(found)


def image_config(base: Base, about: Mapping[str, str]) -> ImageConfig:
    """Say how the image is started: the contract that targets and clouds rely on."""
    path = f"/{HOME}" + (f":{held}" if (held := base.config.env.get("PYTHONPATH")) else "")
    own = {
        "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1",
        "FERRYMAN_BUNDLE": f"/{BUNDLE}", "FERRYMAN_HOST": "0.0.0.0", "FERRYMAN_ADMIN_PORT": "off",  # noqa: S104 - in a container
    }  # fmt: skip
    health = {
        "Test": ["CMD", base.python, "-m", "ferryman.client.health"],
        "Interval": 10 * _SECOND, "Timeout": 5 * _SECOND, "StartPeriod": 30 * _SECOND, "Retries": 3,
    }  # fmt: skip
    return ImageConfig(
        user=f"{USER}:{USER}",
        env={**base.config.env, **own},
        entrypoint=(base.python, "-m", "ferryman"),
        cmd=("serve",),
        exposed=(f"{PORT}/tcp",),
        labels={**base.config.labels, **about},
        healthcheck=health,
        working_dir="/",
        stop_signal="SIGTERM",
    )


def about_bundle(bundle: Bundle, base: Base) -> dict[str, str]:
    """Give an image's labels, which are its annotations too; nothing in them tells when or where it was made."""
    manifest, deployment = bundle.manifest, bundle.deployment
    standard = {
        "title": manifest.name,
        "description": f"{deployment.task.kind} model {manifest.name} ({manifest.format}, {manifest.precision})",
        "version": manifest.digest[:12],
        "licenses": deployment.model.license or "",
        "created": _created(),
        "base.name": "" if base.name.startswith("oci:") else base.name,  # a folder's place is nobody's business
        "base.digest": base.digest,
    }
    own = {
        "bundle": f"/{BUNDLE}",
        "bundle.digest": f"sha256:{manifest.digest}",
        "format": manifest.format,
        "task": deployment.task.kind,
        "version": __version__,
        "contract": json.dumps(deployment.contract.model_dump(mode="json", exclude_none=True), sort_keys=True),
    }
    named = {f"org.opencontainers.image.{key}": value for key, value in standard.items()}
    named |= {f"ferryman.{key}": value for key, value in own.items()}
    return {key: value for key, value in named.items() if value}


def _created() -> str:
    """Say when the image was made, only where SOURCE_DATE_EPOCH does (reproducible-builds.org)."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return ""
    if not text.isascii() or not text.isdigit() or int(text) > 253402300799:
        raise ConfigError(f"SOURCE_DATE_EPOCH is {text!r}", hint="it is a number of seconds since 1970")
    return datetime.fromtimestamp(int(text), UTC).isoformat().replace("+00:00", "Z")
