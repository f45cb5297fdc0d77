"""Look through the cameras of a project."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

from ferryman.cameras.keep import shown_source
from ferryman.client.access import Access
from ferryman.core.camera import CameraSection
from ferryman.vision.run import RunSettings, Told, run_plan
from ferryman.vision.settings import read_plan


class RunChoices(TypedDict, total=False):
    """Say how to run: with no view and no end by default.

    `port` serves the live view at `host` (0: any port); `access` says who asks servers that want to know.
    """

    host: str
    port: int | None
    duration_s: float | None
    access: Access


def run(
    project: str | Path = Path(),
    *,
    cameras: Sequence[str] = (),
    bundle: str | Path | None = None,
    ready: Callable[[str], object] = lambda url: None,
    tell: Callable[[Told], object] | None = None,
    stop: threading.Event | None = None,
    **choices: Unpack[RunChoices],
) -> dict[str, Any]:  # JSON
    """Answer the frames of a project's cameras until they end, `stop` is set, or `duration_s` is over.

    Each answer goes to `tell`, in a thread of the pipeline's; `ready` is told the view's address once the model answers
    right. Gives each camera's figures. Raises ConfigError, MissingExtra, BundleError and WrongAnswers before a camera
    is opened.
    """
    plan = read_plan(Path(project), only=tuple(cameras), bundle=Path(bundle) if bundle else None)
    return run_plan(plan, RunSettings(**choices), ready=ready, tell=tell, stop=stop)


def plan_run(
    project: str | Path = Path(), *, cameras: Sequence[str] = (), bundle: str | Path | None = None
) -> dict[str, Any]:  # JSON
    """Say what `run` would do, and open nothing."""
    plan = read_plan(Path(project), only=tuple(cameras), bundle=Path(bundle) if bundle else None)
    return {
        "model": plan.model,
        "asked": str(plan.bundle) if plan.bundle else " ".join(plan.pipeline.infer),
        "cameras": [
            {
                "name": name,
                "kind": camera.name,
                "source": shown_source(camera) if isinstance(camera, CameraSection) else "",
                "policy": getattr(camera, "policy", None) or ("latest" if camera.is_live else "every"),
            }
            for name, camera in plan.cameras.items()
        ],
    }
