"""Bring a bundle to life: its runtime, its task, and proof that it still answers as it did when it was verified."""

import logging
from collections.abc import Mapping, Sequence

from ferryman.bundle.golden import GoldenCheck, check_golden
from ferryman.core.bundle import Bundle
from ferryman.core.errors import NotReady
from ferryman.core.plugins import find, runtime_for
from ferryman.core.runtime import Runtime
from ferryman.core.task import TaskFactory
from ferryman.server.data.models import ServedModel, kind_of_items, version_of

_log = logging.getLogger("ferryman.server")


class Loader:
    """Know the plug-ins that a bundle needs; made before the server listens, so that a missing one stops it."""

    def __init__(self, bundle: Bundle, *, threads: int) -> None:
        self.bundle = bundle
        self.name = bundle.manifest.name
        self.version = version_of(bundle)
        self._runtime: Runtime = runtime_for(bundle.manifest.format, serves=True).require()()
        self._factory: TaskFactory = find("tasks", bundle.deployment.task.kind).require()
        self._threads = bundle.threads(threads)

    def load(self) -> ServedModel:
        """Load the model and ask it the golden samples, which warms it up; raises NotReady for a wrong answer."""
        bundle = self.bundle
        session = self._runtime.load(bundle.artifact, threads=self._threads)
        try:
            task = self._factory(bundle.deployment.task, session.signature)
            checks = check_golden(bundle, task, session)
        except BaseException:
            session.close()
            raise
        if wrong := [check for check in checks if check.beyond]:
            session.close()
            raise NotReady(
                _explain(wrong, checks, bundle.tolerance), hint="this machine or its engine computes otherwise"
            )
        if not checks:
            _log.warning("model '%s' has no golden samples: it is served unchecked", self.name)
        return ServedModel(
            name=self.name,
            version=self.version,
            bundle=bundle,
            task=task,
            session=session,
            takes=kind_of_items(bundle),
        )


def _explain(wrong: Sequence[GoldenCheck], checks: Sequence[GoldenCheck], tolerance: Mapping[str, float]) -> str:
    figures = ", ".join(f"{name} {value:.4g} over {tolerance[name]:.4g}" for name, value in wrong[0].beyond.items())
    return f"answers {len(wrong)} of {len(checks)} golden samples wrong, first '{wrong[0].name}': {figures}"
