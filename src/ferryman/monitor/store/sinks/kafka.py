"""Produce records to a Kafka topic."""

from collections.abc import Mapping, Sequence
from typing import Any

from ferryman.core.errors import MissingExtra, UserError
from ferryman.core.recording import KafkaSink as Section
from ferryman.monitor.store.sinks.events import STRUCTURED, dump, event_of
from ferryman.monitor.store.sinks.protocol import Event, SinkDown

_REFUSED = ("MSG_SIZE_TOO_LARGE", "INVALID_MSG", "INVALID_RECORD")


class KafkaSink:
    """Hold an idempotent producer that waits until all replicas in sync have each event."""

    def __init__(self, section: Section, options: Mapping[str, str]) -> None:
        """Raises MissingExtra without confluent-kafka, UserError for an option that librdkafka doesn't know."""
        try:
            from confluent_kafka import KafkaException, Producer
        except ImportError:
            raise MissingExtra(
                "a Kafka sink needs confluent-kafka, which is not installed", hint="pip install 'ferryman[kafka]'"
            ) from None
        self._section = section
        milliseconds = int(section.timeout_s * 1000)
        settings: dict[str, Any] = {
            "bootstrap.servers": section.servers, "enable.idempotence": True, "linger.ms": 5,
            "message.timeout.ms": milliseconds, "log_level": 0, **options,
        }  # fmt: skip
        try:
            self._producer = Producer(settings)
        except (KafkaException, ValueError, TypeError) as error:
            raise UserError(f"Kafka takes no such options: {error}", hint="look at the sink's options") from None

    def send(self, events: Sequence[Event]) -> int:
        """Produce all, and wait until the brokers have acknowledged each one."""
        errors: list[Any] = []  # KafkaError

        def acknowledged(error: Any, _message: Any) -> None:  # KafkaError, Message
            if error is not None:
                errors.append(error)

        refused = 0
        for event in events:
            told = event_of(event, self._section.source)
            headers = [("content-type", STRUCTURED.encode())]
            try:
                self._producer.produce(
                    self._section.topic, dump(told), event.id.encode(), on_delivery=acknowledged, headers=headers
                )
            except BufferError:
                self._fail("the producer's queue is full")
            except Exception as error:  # noqa: BLE001 - KafkaException: too large for the producer's own limit
                refused += self._refused(getattr(error, "args", [None])[0], error)
        if self._producer.flush(self._section.timeout_s + 1):
            self._fail("no acknowledgement in time")
        return refused + sum(self._refused(error, error) for error in errors)

    def close(self) -> None:
        """Drop what is under way: it is sent again by the next start."""
        self._producer.purge(in_flight=False, blocking=False)

    def _refused(self, code: Any, error: object) -> int:  # KafkaError
        name = code.name().lstrip("_") if hasattr(code, "name") else ""
        if name in _REFUSED:
            return 1
        return self._fail(str(error))

    def _fail(self, why: str) -> int:
        self._producer.purge()
        self._producer.poll(0)
        raise SinkDown(f"{self._section.servers}: {why}")
