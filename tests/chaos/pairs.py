"""Callers of two protocols at once, and what is done to the server that they ask."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bundle.making import bundle_affine
from tests.chaos.callers import Callers
from tests.chaos.counts import Counts, together
from tests.chaos.grpc_load import GrpcLoad, GrpcStreamLoad, Questions
from tests.chaos.load import HttpLoad, Target
from tests.chaos.serving import Serving
from tests.chaos.stream_load import StreamLoad
from tests.server.running import wait_until


@dataclass(frozen=True)
class Pair:
    """Be callers over HTTP or a WebSocket, and others over gRPC."""

    http: HttpLoad | StreamLoad
    grpc: Callers

    @property
    def counts(self) -> Counts:
        """Give what all of them saw."""
        return together([self.http.counts, self.grpc.counts])

    def wait_for_answers(self, more: int) -> None:
        """Return when each protocol had so many more right answers."""
        self.http.wait_for_answers(more)
        self.grpc.wait_for_answers(more)

    def hurt(self) -> None:
        """Know that the harm is done now."""
        self.http.hurt()
        self.grpc.hurt()

    def stop(self) -> None:
        """Ask no more, and wait for the last answers."""
        self.http.stop()
        self.grpc.stop()

    def wait_until_left(self) -> None:
        """Return when every caller has gone."""
        self.http.wait_until_left()
        self.grpc.wait_until_left()


@contextmanager
def requests(target: Target, questions: Questions, *, callers: int = 8) -> Iterator[Pair]:
    """Ask in requests of their own while the block lasts."""
    with HttpLoad(target, questions, callers=callers) as http, GrpcLoad(target, questions) as grpc:
        yield Pair(http, grpc)


@contextmanager
def streams(target: Target, questions: Questions) -> Iterator[Pair]:
    """Ask in streams while the block lasts."""
    with StreamLoad(target, questions) as http, GrpcStreamLoad(target, questions) as grpc:
        yield Pair(http, grpc)


def kill_workers(server: Serving, callers: Pair) -> None:
    """Kill the server's one worker three times, and wait until callers are answered again."""
    for _ in range(3):
        callers.wait_for_answers(50)
        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)
        callers.hurt()
        wait_until(lambda killed=worker: [pid for pid in server.workers() if pid != killed])
        callers.wait_for_answers(20)


def factor_of(version: str) -> float:
    """Give the factor of a version that was put into a repository here."""
    return float(version) + 1


def load_version(server: Serving, repository: Path, version: str) -> None:
    """Put a version into a repository and have it served."""
    bundle_affine(repository / "affine" / version, factor=factor_of(version))
    status, answer = server.admin("POST", "/v2/repository/models/affine/load", {})
    assert status == 200, answer
