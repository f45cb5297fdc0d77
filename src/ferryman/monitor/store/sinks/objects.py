"""Put Parquet files into an object store."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from ferryman.core.errors import MissingExtra, UserError
from ferryman.monitor.store.sinks.protocol import SinkDown

_CONNECT_S, _TIMEOUT_S = 10, 120


class ObjectsSink:
    """Hold a store of obstore: S3, Google Cloud Storage or Azure Blob Storage, and what speaks as these do."""

    def __init__(self, url: str, options: Mapping[str, str]) -> None:
        """Raises MissingExtra without obstore, UserError for an option that it doesn't know."""
        try:
            import obstore
            from obstore.exceptions import BaseError
            from obstore.store import from_url
        except ImportError:
            raise MissingExtra(
                "a sink of objects needs obstore, which is not installed", hint="pip install 'ferryman[objects]'"
            ) from None
        self._url, self._put, self._failure = url, obstore.put, BaseError
        http: dict[str, Any] = {
            "connect_timeout": timedelta(seconds=_CONNECT_S),
            "timeout": timedelta(seconds=_TIMEOUT_S),
        }
        if any("http://" in told for told in (url, *options.values())):  # only where the operator wrote it
            http["allow_http"] = True
        again = {"max_retries": 0, "retry_timeout": timedelta(seconds=_TIMEOUT_S)}
        try:
            self._store = from_url(url, config=dict(options) or None, client_options=http, retry_config=again)
        except (BaseError, ValueError) as error:
            raise UserError(
                f"{url} is no object store: {_first_line(error)}", hint="look at its url and options"
            ) from None

    def put(self, name: str, path: Path) -> None:
        """Upload one file, in parts where it is large."""
        try:
            self._put(self._store, name, path)
        except (self._failure, OSError) as error:
            raise SinkDown(f"{self._url}/{name}: {_first_line(error)}") from None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:300]
