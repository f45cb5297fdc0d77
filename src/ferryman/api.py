"""The verbs as functions: what the command line calls, and what a Python program may."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from ferryman.build.cache import Cache
from ferryman.build.init import InitChoices, Initialised, InitSettings, write_deployment
from ferryman.build.plan import Plan
from ferryman.build.run import Built, build_project, plan_project
from ferryman.bundle.pack import pack as pack_bundle
from ferryman.bundle.read import load_bundle
from ferryman.client.http import Client
from ferryman.client.session import RemoteSession
from ferryman.core.bundle import Bundle
from ferryman.core.deployment import Project, deployment_schema, load_project
from ferryman.core.errors import ConfigError, FerrymanError
from ferryman.core.plugins import KINDS, Plugin, broken_plugins, plugins, runtime_for
from ferryman.core.progress import Progress, silent
from ferryman.core.task import Answer, Item, Samples, TaskSpec, bind_task, infer_items
from ferryman.server.app import ServeChoices, ServerSettings
from ferryman.server.app import serve as serve_bundles
from ferryman.tasks.draw import draw as draw_answer
from ferryman.tasks.picture import read_picture
from ferryman.tasks.tensor import TensorSection, TensorTask
from ferryman.verify.recheck import Verified, verify_bundle

__all__ = [
    "Answer",
    "Built",
    "Bundle",
    "FerrymanError",
    "Initialised",
    "Plan",
    "Plugin",
    "Samples",
    "Verified",
    "broken",
    "build",
    "config",
    "draw",
    "infer",
    "init",
    "installed",
    "load",
    "pack",
    "plan",
    "schema",
    "serve",
    "verify",
]

_VARIABLES = {"FERRYMAN_CACHE": "folder of the build cache; by default .ferryman beside ferryman.toml"}


def config(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Give the environment variables that Ferryman reads, with their values ("" where unset)."""
    return {name: environment.get(name, "") for name in _VARIABLES}


def init(source: str, **settings: Unpack[InitChoices]) -> Initialised:
    """Write a ferryman.toml for a trained model, with a guess of its task and the reasons for it."""
    return write_deployment(source, InitSettings(**settings))


def plan(project: Path = Path()) -> Plan:
    """List the candidates that a build would try; runs no step."""
    loaded = load_project(project)
    return plan_project(loaded, _cache(loaded, fresh=False))


def build(
    project: Path = Path(), *, output: Path | None = None, fresh: bool = False, progress: Progress = silent
) -> Built:
    """Try every candidate, repair what breaks the contract, and bundle the best that holds.

    Writes `output` (dist/<name> beside ferryman.toml by default). Results of earlier builds are used unless `fresh`.
    """
    loaded = load_project(project)
    destination = output or loaded.folder / "dist" / loaded.deployment.model.name
    return build_project(loaded, destination, _cache(loaded, fresh=fresh), progress=progress)


def _cache(project: Project, *, fresh: bool) -> Cache:
    folder = config()["FERRYMAN_CACHE"]
    return Cache(Path(folder) if folder else project.folder / ".ferryman", fresh=fresh)


def load(bundle: Path) -> Bundle:
    """Read a bundle (folder or .ferry) and check every digest; raises BundleError."""
    return load_bundle(bundle)


def pack(bundle: Path, file: Path | None = None) -> Path:
    """Write a bundle as one .ferry file, by default beside its folder and named after it; gives the file.

    Raises BundleError where the bundle is damaged, or where `file` is there and no .ferry file.
    """
    folder = bundle.resolve()
    return pack_bundle(bundle, file or folder.with_name(f"{folder.name.removesuffix('.ferry')}.ferry"))


def infer(target: str | Path, items: Sequence[Item], *, model: str | None = None, threads: int = 0) -> list[Answer]:
    """Answer items with a bundle, or with a running server where `target` is a URL.

    `threads` 0 takes as many as the bundle was built for.
    """
    if str(target).startswith(("http://", "https://")):
        with Client(str(target)) as client:
            return _ask(client, model or _only_model(client), items)
    bundle = load_bundle(Path(target))
    runtime = runtime_for(bundle.artifact.format, serves=True).require()()
    session = runtime.load(bundle.artifact, threads=bundle.threads(threads))
    try:
        return infer_items(bind_task(bundle.deployment.task, bundle.artifact.signature), session, items)
    finally:
        session.close()


def _ask(client: Client, model: str, items: Sequence[Item]) -> list[Answer]:
    session = RemoteSession(client, model)
    if not session.takes_tensors:
        return [client.infer_item(model, item) for item in items]
    task = TensorTask(TensorSection(), session.signature)  # reads arrays and forms answers as it does with a bundle
    return [infer_items(task, session, [item])[0] for item in items]


def _only_model(client: Client) -> str:
    names = client.models()
    if len(names) != 1:
        raise ConfigError(f"the server has {len(names)} models: {', '.join(names)}", hint="say which with --model")
    return names[0]


def draw(target: str | Path, item: Path, answer: Answer, destination: Path) -> None:
    """Draw the answer of a bundle or server over its picture and write that (.jpg or .png)."""
    import cv2

    is_remote = str(target).startswith(("http://", "https://"))
    task = TaskSpec(kind="any") if is_remote else load_bundle(Path(target)).deployment.task
    picture = draw_answer(task, read_picture(item, name=str(item)), answer)
    if not cv2.imwrite(str(destination), picture):
        raise ConfigError(f"can't write a picture to {destination}", hint="its name must end in .jpg or .png")


def verify(bundle: Path, *, threads: int = 0, progress: Progress = silent) -> Verified:
    """Check a bundle again on this machine: integrity, golden samples, contract."""
    loaded = load_bundle(bundle)
    return verify_bundle(loaded, threads=loaded.threads(threads), progress=progress)


def serve(
    bundles: Sequence[Path],
    *,
    max_body_mb: float = 32.0,
    on_ready: Callable[[str], None] | None = None,
    **settings: Unpack[ServeChoices],
) -> None:
    """Serve bundles over the Open Inference Protocol V2 until SIGTERM; `on_ready` hears the URL."""
    chosen = ServerSettings(max_body_bytes=round(max_body_mb * 1e6), **settings)
    serve_bundles(bundles, chosen, on_ready or (lambda _: None))


def installed() -> list[Plugin]:
    """List every plug-in: sources, steps, runtimes, tasks."""
    return [plugin for kind in KINDS for plugin in plugins(kind).values()]


def broken() -> dict[str, str]:
    """Give the plug-ins that can't be loaded, with their errors."""
    return {f"{kind} {name}": error for kind in KINDS for name, error in broken_plugins(kind).items()}


def schema() -> dict[str, Any]:  # JSON schema
    """Give the JSON schema of ferryman.toml, for editors."""
    return deployment_schema()
