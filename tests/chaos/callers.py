"""Callers that have a thread each: what all of them share."""

import threading
from types import TracebackType
from typing import Self

from tests.chaos.counts import Counts, together
from tests.chaos.load import ANSWER_S
from tests.server.running import wait_until


class Callers:
    """Ask again and again while the block lasts; `_call` is what one caller does, until `_stopping` is set."""

    def __init__(self, callers: int) -> None:
        self._stopping = threading.Event()
        self._counts = [Counts() for _ in range(callers)]
        self._threads = [threading.Thread(target=self._begin, args=(each,), name="caller") for each in self._counts]
        self._crashes: list[BaseException] = []

    @property
    def counts(self) -> Counts:
        """Give what all callers saw."""
        return together(self._counts)

    def hurt(self) -> None:
        """Know that the harm is done now."""
        for each in self._counts:
            each.hurt()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._crashes and error is None:
            raise self._crashes[0]

    def stop(self) -> None:
        """Ask no more, and wait for the last answers."""
        self._stopping.set()
        self.wait_until_left()

    def wait_for_answers(self, more: int, *, timeout_s: float = ANSWER_S) -> None:
        """Return when so many more were answered right."""
        until = self.counts.answered + more
        wait_until(lambda: self.counts.answered >= until or bool(self._crashes), timeout_s=timeout_s)

    def wait_until_left(self) -> None:
        """Return when every caller has gone."""
        for thread in self._threads:
            thread.join(2 * ANSWER_S)
            assert not thread.is_alive(), "a caller hangs"

    def _begin(self, counts: Counts) -> None:
        try:
            self._call(counts)
        except BaseException as error:  # noqa: BLE001 - the boundary of a thread: raised at the block's end
            self._crashes.append(error)

    def _call(self, counts: Counts) -> None:
        raise NotImplementedError
