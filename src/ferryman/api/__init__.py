"""The verbs as functions: what the command line calls, and what a Python program may."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from ferryman.api._feedback import feedback
from ferryman.api._infer import draw, infer, load
from ferryman.api._infer import infer_each as infer_each
from ferryman.api._infer import is_url as is_url
from ferryman.api._records import check_records, count_records, export_records, records
from ferryman.api._report import report, report_html
from ferryman.api._retrain import RetrainChoices, Retrained, bring_in
from ferryman.api._run import plan_run, run
from ferryman.api._score import plan_score, score
from ferryman.batch.run import Scored
from ferryman.batch.settings import ScoreChoices as ScoreChoices
from ferryman.build.cache import Cache
from ferryman.build.foreign import Examined, examine_file
from ferryman.build.init import InitChoices, Initialised, InitSettings, write_deployment
from ferryman.build.parity import Compared, compare_formats
from ferryman.build.plan import Plan
from ferryman.build.run import Built, build_project, plan_project
from ferryman.build.toolchain import Made, add_toolchain, describe, list_toolchains, with_bases
from ferryman.build.toolchain import remove_toolchain as free_toolchain
from ferryman.bundle.pack import pack as pack_bundle
from ferryman.bundle.read import load_bundle
from ferryman.client.access import NOBODY, Access
from ferryman.client.admin import Admin
from ferryman.container.settings import ImageSettings, VerifyImageChoices
from ferryman.container.source import is_image as looks_like_image
from ferryman.container.source import refuse_unnamed
from ferryman.container.suite import Examined as ExaminedImage
from ferryman.container.suite import examine_image
from ferryman.core.bundle import Bundle
from ferryman.core.deployment import Project, deployment_schema, load_project
from ferryman.core.errors import ConfigError, FerrymanError
from ferryman.core.plugins import KINDS, Plugin, broken_plugins, plugins
from ferryman.core.progress import Progress, silent
from ferryman.core.task import Answer, Samples
from ferryman.core.toolchain import find_toolchain
from ferryman.package.run import package_bundle, plan_image
from ferryman.package.settings import PackageChoices, Packaged, PackageSettings, Planned
from ferryman.server.app import serve as serve_bundles
from ferryman.server.settings import ServeChoices, ServerSettings
from ferryman.supply.bom import Bom
from ferryman.supply.keyless import accept_keyless, sign_keyless
from ferryman.supply.keys import make_key
from ferryman.supply.modelpack import Moved
from ferryman.supply.signing import Accepted, Signed
from ferryman.supply.verbs import accept, bom, pull, push, sign
from ferryman.targets.deploy import Destination
from ferryman.tasks.data import read_samples
from ferryman.verify.recheck import Verified, verify_bundle
from ferryman.vision.run import Told

__all__ = [
    "Accepted",
    "Access",
    "Answer",
    "Bom",
    "Built",
    "Bundle",
    "Compared",
    "Destination",
    "Examined",
    "ExaminedImage",
    "FerrymanError",
    "Initialised",
    "Made",
    "Moved",
    "PackageChoices",
    "Packaged",
    "Plan",
    "Planned",
    "Plugin",
    "Retrained",
    "Samples",
    "Scored",
    "Signed",
    "Told",
    "Verified",
    "accept",
    "accept_keyless",
    "add_toolchains",
    "bom",
    "broken",
    "build",
    "check_records",
    "config",
    "count_records",
    "draw",
    "export_records",
    "feedback",
    "infer",
    "init",
    "installed",
    "load",
    "make_key",
    "pack",
    "package",
    "parity",
    "plan",
    "plan_package",
    "plan_run",
    "plan_score",
    "pull",
    "push",
    "records",
    "remove_toolchain",
    "report",
    "report_html",
    "retrain",
    "run",
    "schema",
    "score",
    "serve",
    "sign",
    "sign_keyless",
    "toolchains",
    "verify",
    "verify_candidate",
    "verify_image",
]

_VARIABLES = {
    "FERRYMAN_BUNDLE": "what `ferryman serve` serves where no bundle is named; each of its options has a variable, too",
    "FERRYMAN_CACHE": "folder of the caches; by default .ferryman beside ferryman.toml, for images ~/.cache/ferryman",
    "FERRYMAN_PICTURES": "what decodes pictures: opencv or pillow; by default the first that is installed",
    "FERRYMAN_POLICY": "a policy's file: whose signatures are asked for",
    "FERRYMAN_TOOLCHAINS": "folder of the toolchains; by default ferryman/toolchains in the user's cache",
}


def config(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Give the environment variables that Ferryman reads, with their values ("" where unset)."""
    return {name: environment.get(name, "") for name in _VARIABLES}


def user_cache() -> Path:
    """Give the folder for what is worth keeping between projects: images' layers and packages."""
    chosen = config()["FERRYMAN_CACHE"]
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ferryman"


def init(source: str, **settings: Unpack[InitChoices]) -> Initialised:
    """Write a ferryman.toml for a trained model, with a guess of its task and the reasons for it."""
    return write_deployment(source, InitSettings(**settings))


def plan(project: str | Path = Path()) -> Plan:
    """List the candidates that a build would try; runs no step."""
    loaded = load_project(Path(project))
    return plan_project(loaded, _cache(loaded, fresh=False))


def build(
    project: str | Path = Path(),
    *,
    output: str | Path | None = None,
    fresh: bool = False,
    time_budget_s: float | None = None,
    progress: Progress = silent,
) -> Built:
    """Try every candidate, repair what breaks the contract, and bundle the best that holds.

    Writes `output` (dist/<name> beside ferryman.toml by default). Results of earlier builds are used unless `fresh`.
    `time_budget_s` goes before `build.time_budget_s`: what isn't begun by then is told in the proof.
    """
    loaded = load_project(Path(project))
    destination = Path(output) if output else loaded.folder / "dist" / loaded.deployment.model.name
    cache = _cache(loaded, fresh=fresh)
    return build_project(loaded, destination, cache, time_budget_s=time_budget_s, progress=progress)


def _cache(project: Project, *, fresh: bool) -> Cache:
    folder = config()["FERRYMAN_CACHE"]
    return Cache(Path(folder) if folder else project.folder / ".ferryman", fresh=fresh)


def retrain(
    project: str | Path,
    repository: str | Path,
    server: str,
    *,
    access: Access = NOBODY,
    progress: Progress = silent,
    **choices: Unpack[RetrainChoices],
) -> Retrained:
    """Train, build, and bring the bundle in as the next version of a served model; returns once it is promoted.

    `train` runs in the project's folder. The bundle goes to `repository`/MODEL/N, where the `server` (its admin
    address) looks for it. By default the plan lets answers differ: another model is meant to answer otherwise. Raises
    FerrymanError where the training or the rollout fails, ContractBroken where no candidate keeps the contract,
    UserError for a bundle that serves already, or that an alert had rolled back.
    """

    def make(output: Path) -> Built:
        return build(project, output=output, progress=progress)

    return bring_in(project, make, repository, Admin(server, access=access), progress, choices)


def pack(bundle: str | Path, file: str | Path | None = None) -> Path:
    """Write a bundle as one .ferry file, by default beside its folder and named after it; gives the file.

    Raises BundleError where the bundle is damaged, or where `file` is there and no .ferry file.
    """
    folder = Path(bundle).resolve()
    return pack_bundle(
        Path(bundle), Path(file) if file else folder.with_name(f"{folder.name.removesuffix('.ferry')}.ferry")
    )


def package(
    bundle: str | Path | Bundle, tag: str, *, progress: Progress = silent, **choices: Unpack[PackageChoices]
) -> Packaged:
    """Write a bundle as an OCI image called `tag` (HOST/NAME:TAG); equal parts give an equal digest.

    Layers are kept in the user's cache, so that a change of the model alone writes the bundle's layer anew. Raises
    ImageError, RegistryError.
    """
    loaded = bundle if isinstance(bundle, Bundle) else load(bundle)
    return package_bundle(loaded, PackageSettings(tag=tag, **choices), cache=user_cache(), progress=progress)


def plan_package(
    bundle: str | Path | Bundle, tag: str, *, progress: Progress = silent, **choices: Unpack[PackageChoices]
) -> list[Planned]:
    """Say what `package` would put into the image of each platform, and where it would go."""
    loaded = bundle if isinstance(bundle, Bundle) else load(bundle)
    return plan_image(loaded, PackageSettings(tag=tag, **choices), cache=user_cache(), progress=progress)


def verify(bundle: str | Path, *, threads: int = 0, progress: Progress = silent) -> Verified:
    """Check a bundle again on this machine: integrity, golden samples, contract."""
    refuse_unnamed(str(bundle))
    loaded = load_bundle(Path(bundle))
    return verify_bundle(loaded, threads=loaded.threads(threads), progress=progress)


def is_image(target: str) -> bool:
    """Tell an image (oci:DIR, docker-archive:FILE, or a reference with a tag, a digest or a host) from a path."""
    return looks_like_image(target)


def verify_image(image: str, *, progress: Progress = silent, **settings: Unpack[VerifyImageChoices]) -> ExaminedImage:
    """Start an image under its contract's limits with podman or docker, and check all that it promised.

    Any server of the Open Inference Protocol V2 will do; what needs a bundle is not checked without one.
    """
    return examine_image(image, ImageSettings(**settings), progress=progress)


def parity(
    bundle: str | Path,
    *,
    project: str | Path | None = None,
    trust: bool = False,
    threads: int = 0,
    progress: Progress = silent,
) -> tuple[Bundle, Compared]:
    """Set every format of a bundle beside its reference again, on a project's labelled data or the golden samples.

    `trust` runs formats whose files are programs, too.
    """
    loaded = load_bundle(Path(bundle))
    samples = None
    if project is not None:
        found = load_project(Path(project))
        if found.deployment.data.evaluation is None:
            raise ConfigError(f"{found.folder} has no labelled data", hint="set data.evaluation in its ferryman.toml")
        samples = read_samples(found.deployment.data.evaluation, found.folder, loaded.deployment.task)
    return loaded, compare_formats(loaded, samples=samples, trust=trust, threads=threads, progress=progress)


def verify_candidate(project: str | Path, file: str | Path, *, progress: Progress = silent) -> Examined:
    """Set a model file that somebody else made beside the project's source: tensors, answers, metric, contract."""
    loaded = load_project(Path(project))
    return examine_file(loaded, Path(file), _cache(loaded, fresh=False), progress=progress)


def serve(
    bundles: Sequence[str | Path],
    *,
    max_body_mb: float = 32.0,
    on_ready: Callable[[str], None] | None = None,
    **settings: Unpack[ServeChoices],
) -> None:
    """Serve bundles over the Open Inference Protocol V2 until SIGTERM; `on_ready` hears the URL.

    Raises ContractBroken for a bundle whose proof says that its contract doesn't hold, unless `allow_broken`.
    """
    chosen = ServerSettings(max_body_bytes=round(max_body_mb * 1e6), **settings)
    tell = on_ready or (lambda _: None)
    serve_bundles([Path(bundle) for bundle in bundles], chosen, lambda url, _: tell(url))


def installed() -> list[Plugin]:
    """List every plug-in: sources, steps, runtimes, tasks."""
    return [plugin for kind in KINDS for plugin in plugins(kind).values()]


def broken() -> dict[str, str]:
    """Give the plug-ins that can't be loaded, with their errors."""
    return {f"{kind} {name}": error for kind in KINDS for name, error in broken_plugins(kind).items()}


def schema() -> dict[str, Any]:  # JSON schema
    """Give the JSON schema of ferryman.toml, for editors."""
    return deployment_schema()


def toolchains(names: Sequence[str] = ()) -> list[Made]:
    """Tell of these toolchains and of those that they stand on, or of all: what is there, and what it holds."""
    return [describe(toolchain) for toolchain in with_bases(names)] if names else list_toolchains()


def add_toolchains(names: Sequence[str], *, progress: Progress = silent) -> list[Made]:
    """Make the environments of these toolchains and of those that they stand on; downloads pinned packages."""
    return [add_toolchain(toolchain, progress=progress) for toolchain in with_bases(names)]


def remove_toolchain(name: str, *, dry_run: bool = False) -> float:
    """Remove a toolchain, of every version; gives the megabytes that it freed, or would free."""
    return free_toolchain(find_toolchain(name), dry_run=dry_run)
