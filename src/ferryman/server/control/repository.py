"""Load a server's bundles, one after the other, beside the loop that answers requests."""

import asyncio
import logging
from collections.abc import Sequence

from ferryman.core.bundle import Bundle
from ferryman.core.errors import ConfigError, FerrymanError
from ferryman.server.control.loader import Loader
from ferryman.server.data.old_dataplane import Dataplane

_log = logging.getLogger("ferryman.server")


class Repository:
    """Announce bundles to a dataplane and load them; raises at once for a missing plug-in or a bundle given twice."""

    def __init__(self, dataplane: Dataplane, bundles: Sequence[Bundle], *, threads: int) -> None:
        self._dataplane = dataplane
        self._loaders = [Loader(bundle, threads=threads) for bundle in bundles]
        seen: set[tuple[str, str]] = set()
        for loader in self._loaders:
            if (loader.name, loader.version) in seen:
                raise ConfigError(f"bundle '{loader.name}' {loader.version} was given twice", hint="give it once")
            seen.add((loader.name, loader.version))
            dataplane.announce(loader.name, loader.version)

    async def load_all(self) -> None:
        """Load every bundle; one that can't be loaded, or answers its golden samples wrong, stays unready."""
        for loader in self._loaders:
            try:
                self._dataplane.put(await asyncio.to_thread(loader.load))
            except FerrymanError as error:
                self._refuse(loader, str(error), error)
            except Exception as error:  # noqa: BLE001 - an engine may fail in any way; the others still serve
                self._refuse(loader, f"can't be loaded: {type(error).__name__}: {error}", error)

    def _refuse(self, loader: Loader, reason: str, error: Exception) -> None:
        trace = None if isinstance(error, FerrymanError) else error
        _log.error("model '%s' %s", loader.name, reason, exc_info=trace)
        self._dataplane.refuse(loader.name, loader.version, reason=reason)
