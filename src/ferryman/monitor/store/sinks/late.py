"""Sinks that are opened when there is something for them: one that can't be yet is one that is down."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from ferryman.core.errors import FerrymanError
from ferryman.monitor.store.sinks.protocol import Event, EventSink, FileSink, SinkDown

Sink = TypeVar("Sink", EventSink, FileSink)


class LateEvents:
    """Take records for a sink; what its settings lack is looked for anew at each try."""

    def __init__(self, opening: Callable[[], EventSink]) -> None:
        self._opening = opening
        self._sink: EventSink | None = None

    def send(self, events: Sequence[Event]) -> int:
        """Open the sink, and hand them on; raises SinkDown."""
        self._sink = self._sink or _open(self._opening)
        return self._sink.send(events)

    def close(self) -> None:
        """Close it, if it is open."""
        if self._sink is not None:
            self._sink.close()


class LateFiles:
    """Take files for a sink; as LateEvents."""

    def __init__(self, opening: Callable[[], FileSink]) -> None:
        self._opening = opening
        self._sink: FileSink | None = None

    def put(self, name: str, path: Path) -> None:
        """Open the sink, and hand it on; raises SinkDown."""
        self._sink = self._sink or _open(self._opening)
        self._sink.put(name, path)


def _open(opening: Callable[[], Sink]) -> Sink:
    try:
        return opening()
    except FerrymanError as error:
        raise SinkDown(f"{error}; {error.hint}" if error.hint else str(error)) from None
