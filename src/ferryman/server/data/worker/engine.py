"""Answer a bundle's model with an engine of this device: the one that was kept, or a new one."""

import contextlib
import os
from dataclasses import replace

from ferryman.core.bundle import Bundle
from ferryman.core.engine import DeviceRuntime, EngineRequest, find_device_runtime, fingerprint_of
from ferryman.core.engine_cache import EngineCache
from ferryman.core.errors import NotReady
from ferryman.core.runtime import Session
from ferryman.server.data.worker.order import EngineOrder, LoadOrder

_LEAST_PRIORITY = 19


def open_engine(bundle: Bundle, order: LoadOrder, engine: EngineOrder, *, threads: int) -> Session:
    """Load the engine; builds it first where that is this worker's work.

    Raises NotReady where it isn't there and shall not be built, MissingExtra where this machine can't run it, and what
    building and loading raise.
    """
    runtime: DeviceRuntime = find_device_runtime(engine.name).require()()
    cache = EngineCache(engine.cache, limit_mb=engine.cache_mb)
    request = EngineRequest(
        cache.shared, bundle.deployment.build.options.get(engine.name, {}), max_batch=order.max_batch, threads=threads
    )
    fingerprint = fingerprint_of(runtime, bundle.artifact, request)
    folder = cache.find(fingerprint)
    if folder is None and engine.builds:
        _step_back()
        folder = cache.build(fingerprint, lambda empty: runtime.build(bundle.artifact, empty, request))
    if folder is None:
        raise NotReady(f"its {engine.name} engine is no longer in {engine.cache}", hint="load the model again")
    engine_file = replace(bundle.artifact, path=folder, format=min(runtime.formats))
    return runtime.load(engine_file, threads=threads)


def _step_back() -> None:
    """Leave the cores to those who answer."""
    with contextlib.suppress(OSError, AttributeError):
        os.nice(_LEAST_PRIORITY)
