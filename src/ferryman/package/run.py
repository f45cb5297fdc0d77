"""Make an image of a bundle and put it where it is wanted: a layout, an archive, a registry."""

import tarfile
import time
from pathlib import Path

from ferryman.core.artifact import files_of
from ferryman.core.bundle import Bundle
from ferryman.core.errors import ConfigError, ImageError
from ferryman.core.progress import Progress, silent
from ferryman.oci.archive import write_archive
from ferryman.oci.blobs import Blobs, explain
from ferryman.oci.descriptor import INDEXES, MANIFESTS, Descriptor, Platform
from ferryman.oci.image import children, read_manifest, write_index
from ferryman.oci.layout import Layout, refuse_foreign
from ferryman.oci.reference import Reference
from ferryman.oci.registry import Registry
from ferryman.package.base import Base, named_base, own_base, own_target, this_machine
from ferryman.package.compose import Parts, about_bundle, compose, image_config, versions_of
from ferryman.package.dockerfile import write_dockerfile
from ferryman.package.fetch import Wheels
from ferryman.package.given_base import find_base
from ferryman.package.settings import OWN_BASE, Packaged, PackagedImage, PackageSettings, Planned
from ferryman.package.store import Store
from ferryman.package.target import Target, check_machine
from ferryman.package.wheel import Wheel
from ferryman.supply.policy import EVERYTHING


def package_bundle(bundle: Bundle, settings: PackageSettings, *, cache: Path, progress: Progress = silent) -> Packaged:
    """Write the image of a bundle; raises ImageError, and nothing half-written is named anywhere.

    Layers are kept below `cache`, found again by what goes into them: after a change of the model alone the bundle's
    layer and the manifest are new.
    """
    started = time.monotonic()
    reference = Reference.parse(settings.tag)
    EVERYTHING.check(bundle)  # no server would take one that was altered since it was signed
    _refuse_both(settings)
    if settings.dockerfile:
        return _write_dockerfile(bundle, settings, cache, progress)
    output = output_of(bundle, settings)
    layout = Layout.create(output) if output and output.suffix != ".tar" else None
    store = Store(cache / "images")
    made = [_image(bundle, settings, machine, store, progress) for machine in machines_of(settings)]
    descriptor = made[0][0] if len(made) == 1 else write_index(store.blobs, [one for one, _ in made])
    if layout:
        progress(f"write {output}")
        copy_closure(store.blobs, descriptor, layout.blobs)
        layout.tag(descriptor, str(reference))
    elif output:
        write_archive(store.blobs, descriptor, output, name=str(reference), platform=_first(settings))
    if settings.push:
        progress(f"push to {reference}")
        with Registry.of(reference, insecure=settings.insecure) as registry:
            registry.push(store.blobs, descriptor, reference, progress=progress)
    store.forget_old()
    return Packaged(
        reference=str(reference),
        digest=descriptor.digest,
        output=output,
        pushed=settings.push,
        images=tuple(image for _, image in made),
        seconds=time.monotonic() - started,
        hint=_how_to_load(output, reference, settings),
    )


def plan_image(bundle: Bundle, settings: PackageSettings, *, cache: Path, progress: Progress = silent) -> list[Planned]:
    """Say what `package_bundle` would put together; writes nothing but a base that has to be got, into the cache."""
    reference = Reference.parse(settings.tag)
    _refuse_both(settings)
    output = settings.dockerfile or output_of(bundle, settings)
    store = Store(cache / "images")
    planned = []
    for machine in machines_of(settings):
        target, base = _planned_base(machine, settings, store, progress)
        versions, notes = versions_of(bundle, target, settings)
        planned.append(
            Planned(
                reference=str(reference),
                platform=str(target.platform),
                base=base,
                python=target.python,
                packages=versions,
                bundle_bytes=sum(file.stat().st_size for file in files_of(bundle.path)),
                output=output,
                pushed=settings.push,
                notes=tuple(notes),
            )
        )
    return planned


def _planned_base(machine: str, settings: PackageSettings, store: Store, progress: Progress) -> tuple[Target, str]:
    if settings.dockerfile:
        named = named_base(settings.base, machine)
        return named.target, named.name
    if settings.base:
        return base_of(machine, settings, store, progress).target, settings.base
    return own_target(machine, store, progress), OWN_BASE


def _refuse_both(settings: PackageSettings) -> None:
    if settings.dockerfile and (settings.output or settings.push):
        raise ConfigError(
            "--dockerfile writes no image that could go to --output or be pushed (--push)", hint="leave one of them out"
        )


def machines_of(settings: PackageSettings) -> list[str]:
    """Give the machines to make images for; this one where none is asked for."""
    machines = [check_machine(Platform.parse(text)) for text in settings.platforms] or [this_machine()]
    if len(set(machines)) != len(machines):
        raise ConfigError(f"--platform names one twice: {', '.join(settings.platforms)}", hint="once is enough")
    return machines


def output_of(bundle: Bundle, settings: PackageSettings) -> Path | None:
    """Say where the image is written; raises ImageError for a place that holds something else."""
    if settings.wheels and not settings.wheels.is_dir():
        raise ConfigError(f"there is no folder {settings.wheels}", hint="--wheels names a folder of wheels")
    if settings.output is None:
        beside, here = bundle.path.with_name(f"{bundle.path.name}.oci"), Path.cwd()
        shown = beside.relative_to(here) if beside.is_relative_to(here) else beside
        return None if settings.push else shown
    if settings.output.suffix == ".tar":
        _refuse_foreign(settings.output)
    if settings.output.suffix != ".tar" and settings.output.exists() and not settings.output.is_dir():
        raise ImageError(f"{settings.output} is a file", hint="name a folder, or a file that ends in .tar")
    if settings.output.suffix != ".tar":
        refuse_foreign(settings.output)
    return settings.output


def _refuse_foreign(file: Path) -> None:
    """Never replace what is no archive of an image."""
    if not file.exists():
        return
    try:
        with tarfile.open(file, mode="r:") as tar:
            first = tar.next()
            is_image = first is not None and first.name == "oci-layout"
    except (OSError, tarfile.TarError):
        is_image = False
    if not is_image:
        raise ImageError(f"{file} is there and is no image's archive", hint="choose another place")


def base_of(machine: str, settings: PackageSettings, store: Store, progress: Progress) -> Base:
    """Give the base for one machine: as named, else our own."""
    if settings.base:
        return find_base(settings.base, Platform("linux", machine), store, progress)
    return own_base(machine, store, progress)


def copy_closure(source: Blobs, descriptor: Descriptor, target: Blobs) -> None:
    """Copy a manifest and all that it stands on, the manifest last; what is there already isn't copied again."""
    for child in children(read_manifest(source, descriptor), origin=descriptor.digest):
        if child.media_type in (*INDEXES, *MANIFESTS):
            copy_closure(source, child, target)
        else:
            target.add_file(source.path(child.digest), child.digest)
    target.add_file(source.path(descriptor.digest), descriptor.digest)


def _image(
    bundle: Bundle, settings: PackageSettings, machine: str, store: Store, progress: Progress
) -> tuple[Descriptor, PackagedImage]:
    try:
        base = base_of(machine, settings, store, progress)
        versions, notes = versions_of(bundle, base.target, settings)
        wheels = Wheels(store.folder / "wheels", base.target, folder=settings.wheels, progress=progress).get(versions)
        return compose(Parts(bundle, base, tuple(wheels), store, progress), notes)
    except OSError as error:  # a full disk while wheels are unpacked, say
        raise explain(error, store.folder) from error


def _first(settings: PackageSettings) -> Platform:
    return Platform("linux", machines_of(settings)[0])


def _write_dockerfile(bundle: Bundle, settings: PackageSettings, cache: Path, progress: Progress) -> Packaged:
    started = time.monotonic()
    folder = settings.dockerfile or Path()
    store = Store(cache / "images")
    wheels: list[Wheel] = []
    base: Base | None = None
    for machine in machines_of(settings):
        base = named_base(settings.base, machine)
        versions, _ = versions_of(bundle, base.target, settings)
        wheels += Wheels(store.folder / "wheels", base.target, folder=settings.wheels, progress=progress).get(versions)
    if base is None:
        raise ConfigError("no platform to write a Dockerfile for", hint="--platform linux/amd64")
    config = image_config(base, about_bundle(bundle, base))
    write_dockerfile(folder, bundle, config, base=base.name, wheels=wheels, offline=settings.wheels is not None)
    return Packaged(
        reference=settings.tag,
        digest="",
        output=folder,
        pushed=False,
        images=(),
        seconds=time.monotonic() - started,
        hint=f"podman build --format docker -t {settings.tag} {folder}",
    )


def _how_to_load(output: Path | None, reference: Reference, settings: PackageSettings) -> str:
    if output is None:
        return f"podman run {reference}"
    if output.suffix == ".tar":
        return f"podman load -i {output}  # or docker load -i {output}"
    return f"skopeo copy oci:{output}:{reference} containers-storage:{reference}  # or docker-daemon:{reference}"
