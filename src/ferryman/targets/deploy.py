"""Bring a bundle to a place that ferryman.toml names: what would change, do it, how it stands, take it away."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferryman.bundle.read import load_bundle
from ferryman.core.bundle import Bundle
from ferryman.core.deployment import load_project, read_target
from ferryman.core.errors import ConfigError, Untrusted
from ferryman.core.plugins import find, plugins
from ferryman.core.progress import Progress, silent
from ferryman.core.target import Change, Files, Landing, Standing
from ferryman.supply.policy import EVERYTHING, Policy
from ferryman.targets.folder import write_folder
from ferryman.targets.image import settle_image
from ferryman.targets.landing import label_of, land

_NO_IMAGE = ("systemd", "edge")  # kinds that carry the bundle's own files
_NODES_HAVE_IT = ("ray",)  # kinds whose nodes may find the bundle without an image
_OCI = "oci://"
_BESIDE = ("canary", "shadow", "model")  # tables of a section that name one more image


@dataclass(frozen=True)
class Destination:
    """Hold a target of a project, with the bundle and the image that go there; `project` is its folder or file.

    Both must be signed as `policy` asks before anything is rendered or applied: Untrusted says which isn't.
    """

    name: str
    project: Path = Path()
    bundle: Path | None = None
    image: str = ""
    policy: Policy = EVERYTHING

    def render(self, folder: Path | None = None) -> Files:
        """Give the files that describe the deployment; written into `folder` where one is named."""
        target, _, bundle = self._found()
        settled, landing = self._landing(target, bundle)
        files: Files = settled.render(landing)
        if folder is not None:
            write_folder(folder, files)
        return files

    def plan(self) -> list[Change]:
        """Give what `apply` would change."""
        return self._apply(dry_run=True, progress=silent)

    def apply(self, progress: Progress = silent) -> list[Change]:
        """Make it so, and wait until it answers; raises DeployError where the place refuses, or it doesn't come up."""
        return self._apply(dry_run=False, progress=progress)

    def status(self) -> Standing:
        """Tell how it stands there."""
        target, called, _ = self._found()
        standing: Standing = target.status(called)
        return standing

    def logs(self, *, lines: int = 100) -> Iterator[str]:
        """Yield the last lines of each copy."""
        target, called, _ = self._found()
        yield from target.logs(called, lines=lines)

    def remove(self, *, dry_run: bool = False, progress: Progress = silent) -> list[Change]:
        """Take away what was put there, and nothing else; gives what was, or would be, removed."""
        target, called, _ = self._found()
        changes: list[Change] = target.remove(called, dry_run=dry_run, progress=progress)
        return changes

    def _apply(self, *, dry_run: bool, progress: Progress) -> list[Change]:
        target, _, bundle = self._found()
        find("targets", target.kind).require()
        settled, landing = self._landing(target, bundle)
        changes: list[Change] = settled.apply(landing, dry_run=dry_run, progress=progress)
        return changes

    def _found(self) -> tuple[Any, str, Path]:  # a Target, its name there, and the bundle
        """Find the settings; a kind's own name stands for that kind as it is without any."""
        file = self.project / "ferryman.toml" if self.project.is_dir() else self.project
        if not file.is_file() and self.name in plugins("targets") and self.bundle is not None:
            target = read_target(self.name, {}, origin="the command line")
            return target, target.service or label_of(load_bundle(self.bundle).manifest.name), self.bundle
        project = load_project(self.project)
        target = project.targets.get(self.name)
        if target is None:
            target = self._of_kind(sorted(project.targets), file)
        model = project.deployment.model.name
        return target, target.service or label_of(model), self.bundle or project.folder / "dist" / model

    def _of_kind(self, known: list[str], file: Path) -> Any:  # a Target
        if self.name in plugins("targets"):
            return read_target(self.name, {}, origin=str(file))
        named = f"{file} has {', '.join(known)}" if known else f"{file} has none"
        raise ConfigError(
            f"there is no [targets.{self.name}]; {named}",
            hint=f"add it, or name a kind: {', '.join(plugins('targets'))}",
        )

    def _landing(self, target: Any, path: Path) -> tuple[Any, Landing]:  # a Target
        """Give what goes there, and the target with its other images by the digests that were accepted."""
        bundle: Bundle = load_bundle(path)
        self.policy.check(bundle)
        if target.kind in _NO_IMAGE:
            return target, land(bundle, target, "")
        image = self.image or target.image
        if not image and target.kind in _NODES_HAVE_IT:
            return target, land(bundle, target, "")
        if not image:
            raise ConfigError(
                f"which image of {bundle.manifest.name} goes to {self.name}?",
                hint='name it with --image, or image = "registry/name@sha256:..." in the target\'s section; '
                "`ferryman package` makes one",
            )
        holds = None if getattr(target, "model", None) else bundle  # where the model comes beside the image
        landing = land(bundle, target, settle_image(image, self.policy, holds=holds))
        return self._settled(target, bundle), landing

    def _settled(self, target: Any, bundle: Bundle) -> Any:  # a Target
        """Settle the images that go there beside the main one; of these only the model's must be of this bundle."""
        found: dict[str, Any] = {}
        if self.policy.keys and (storage := getattr(target, "storage", "")):  # KServe's: what is served lies there
            found["storage"] = _OCI + settle_image(_signable(storage), self.policy, holds=bundle)
        for key in _BESIDE:
            part = getattr(target, key, None)
            if part is not None:
                holds = bundle if key == "model" else None
                found[key] = part.model_copy(update={"image": settle_image(part.image, self.policy, holds=holds)})
        return target.model_copy(update=found) if found else target


def _signable(storage: str) -> str:
    """Give the image that a storage names; raises Untrusted where it lies in no registry."""
    if not storage.startswith(_OCI):
        raise Untrusted(
            f"{storage} is in no registry, and so has no signature",
            hint=f'storage = "{_OCI}...", signed, or leave storage out: the bundle then comes with the image',
        )
    return storage.removeprefix(_OCI)
