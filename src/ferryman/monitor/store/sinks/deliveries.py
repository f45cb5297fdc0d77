"""All sinks of a folder of records: made from settings, each with its thread."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from ferryman.core.recording import CloudEventsSink, DirectorySink, KafkaSink, ObjectsSink, SinkSection
from ferryman.core.secret import SECRET_SOURCES, read_secret
from ferryman.monitor.store.layout import SPOOL, SealedFile, segment_number, segments
from ferryman.monitor.store.sinks.cloudevents import CloudEventsSink as CloudEvents
from ferryman.monitor.store.sinks.delivery import FIRST_WAIT_S
from ferryman.monitor.store.sinks.directory import DirectorySink as Directory
from ferryman.monitor.store.sinks.event_delivery import EventDelivery
from ferryman.monitor.store.sinks.file_delivery import FileDelivery
from ferryman.monitor.store.sinks.kafka import KafkaSink as Kafka
from ferryman.monitor.store.sinks.late import LateEvents, LateFiles
from ferryman.monitor.store.sinks.objects import ObjectsSink as Objects
from ferryman.monitor.store.sinks.protocol import EventSink, FileSink
from ferryman.monitor.store.tally import Tally

Environ = Callable[[str], str | None]


class Deliveries:
    """Start a delivery to each sink, and keep journals in `spool` until every sink that wants them has them."""

    def __init__(
        self,
        folder: Path,
        sections: Mapping[str, SinkSection],
        tally: Tally,
        *,
        environ: Environ = os.environ.get,
        first_wait_s: float = FIRST_WAIT_S,
    ) -> None:
        """Start every sink's thread; one that can't be as its settings say is down, and says why, until it can."""
        self._folder = folder
        self._events: list[EventDelivery] = []
        self._files: list[FileDelivery] = []
        for name, section in sections.items():
            max_bytes = section.max_mb * 10**6
            if isinstance(section, CloudEventsSink | KafkaSink):
                taker = LateEvents(partial(_open_for_events, section, environ))
                self._events.append(
                    EventDelivery(folder, name, tally, taker, max_bytes=max_bytes, first_wait_s=first_wait_s)
                )
            else:
                store = LateFiles(partial(_open_for_files, section, environ))
                self._files.append(
                    FileDelivery(folder, name, tally, store, max_bytes=max_bytes, first_wait_s=first_wait_s)
                )
        for delivery in (*self._events, *self._files):
            delivery.start()

    @property
    def want_events(self) -> bool:
        """Tell whether a sink reads journals, so that these outlive their sealing."""
        return bool(self._events)

    @property
    def delivered(self) -> int | None:
        """Give the number of the last segment whose files every sink of files has; None where there is no such sink."""
        return min((files.cursor.number for files in self._files), default=None)

    def nudge(self, *, is_new: bool) -> None:
        """Wake those for whom there may be something; drop journals that all have. Call it once a second."""
        for events in self._events:
            events.nudge()
        if is_new:
            for files in self._files:
                files.nudge()
        passed = min((events.cursor.number for events in self._events), default=None)
        for path in segments(self._folder, SPOOL):
            if passed is None or segment_number(path.stem) < passed:
                path.unlink(missing_ok=True)

    def deleted(self, sealed: SealedFile) -> None:
        """Tell of a sealed file that is gone."""
        for files in self._files:
            files.deleted(sealed)

    def figures(self) -> dict[str, dict[str, object]]:
        """Say how each sink stands, by its name."""
        return {delivery.sink_name: delivery.figures() for delivery in (*self._events, *self._files)}

    def close(self) -> None:
        """Stop all; what is not delivered waits for the next start."""
        for delivery in (*self._events, *self._files):
            delivery.stop()
        for delivery in (*self._events, *self._files):
            delivery.join(5.0)


def _open_for_events(section: CloudEventsSink | KafkaSink, environ: Environ) -> EventSink:
    if isinstance(section, CloudEventsSink):
        return CloudEvents(section, _read(section.token, environ) if section.token else "")
    return Kafka(section, _options(section.options, environ))


def _open_for_files(section: DirectorySink | ObjectsSink, environ: Environ) -> FileSink:
    if isinstance(section, DirectorySink):
        return Directory(Path(section.path))
    return Objects(section.url, _options(section.options, environ))


def _options(told: Mapping[str, str], environ: Environ) -> dict[str, str]:
    return {key: _read(value, environ) for key, value in told.items()}


def _read(told: str, environ: Environ) -> str:
    return read_secret(told, environ) if told.startswith(SECRET_SOURCES) else told
