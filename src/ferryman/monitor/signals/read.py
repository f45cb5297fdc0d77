"""Read the signals of one model's requests."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any, cast

import numpy as np

from ferryman.core.record import Value
from ferryman.core.signature import Array, Signature
from ferryman.core.task import Answer, Item, PictureInput, TaskSpec
from ferryman.monitor.baseline import Baseline
from ferryman.monitor.signals.answers import AnswerReader
from ferryman.monitor.signals.asked import MISSING, Asked, Found, Reader
from ferryman.monitor.signals.cells import CellReader
from ferryman.monitor.signals.pictures import PictureReader
from ferryman.monitor.signals.rows import RowJudge
from ferryman.monitor.signals.tensors import InputReader, OutputReader
from ferryman.monitor.signals.texts import TextReader

_log = logging.getLogger("ferryman.monitor")
MOST_SIGNALS = 1000
_NAMED = {
    "picture": "pictures", "text": "texts", "table": "rows", "input": "input tensors", "answer": "answers",
    "output": "output tensors",
}  # fmt: skip


class Signals:
    """Read what can be told of one model's requests; may be used from several threads.

    What is read follows what the task's spec says of the inputs (a picture, a text, a table) and what answers hold.
    With a baseline, rows of a table are judged by it, too. `unread` counts, by reader, the calls that it couldn't read.
    At most 1,000 signals are ever given: answers of a foreign task may have keys without end.
    """

    def __init__(self, spec: TaskSpec, signature: Signature, baseline: Baseline | None = None) -> None:
        self._readers = _readers(spec, signature)
        self._judge = RowJudge(baseline) if baseline is not None else None
        self._lock = Lock()
        self._unread: Counter[str] = Counter()
        self._names: set[str] = set()

    @property
    def unread(self) -> Mapping[str, int]:
        """Give how many calls each reader failed to read."""
        with self._lock:
            return dict(self._unread)

    def read(
        self,
        *,
        inputs: Mapping[str, Array],
        items: Sequence[Item] | None,
        contexts: Sequence[Any],
        answers: Sequence[Answer] | None,
        outputs: Mapping[str, Array] | None,
        rows: int,
    ) -> dict[str, list[Value]]:
        """Give signals by name, each with one value for each of `rows` items; never raises.

        `items` is None for tensors that a caller made, `answers` where only tensors were asked for. Tensors may have
        more rows than `rows`: a batch that was filled up.
        """
        asked = Asked(inputs, items, contexts, answers, outputs, rows)
        found: Found = {}
        for name, reader in self._readers.items() if rows > 0 else ():
            found |= self._try(name, reader, asked)
        if not found.keys() <= self._names:
            self._learn(found)
            return {signal: values for signal, values in found.items() if signal in self._names}
        return found

    def _learn(self, found: Found) -> None:
        with self._lock:
            for name in found:
                if len(self._names) < MOST_SIGNALS:
                    self._names.add(name)

    def _try(self, name: str, reader: Reader, asked: Asked) -> Found:
        try:
            with np.errstate(all="ignore"):  # NaN and infinities are no news here: they are what is looked for
                found = reader.read(asked)
                if name == "table" and self._judge is not None:
                    found |= self._judge.judge(found)
        except Exception as error:  # noqa: BLE001 - a task may be anybody's, and a request must not fail by being looked at
            self._count(name, error)
            return {}
        return {signal: _fitted(values, asked.rows) for signal, values in found.items()}

    def _count(self, name: str, error: Exception) -> None:
        with self._lock:
            self._unread[name] += 1
            is_first = self._unread[name] == 1
        if is_first:
            _log.warning("the signals of %s can't be read (told once): %r", _NAMED[name], error)


def _fitted(values: list[Value], rows: int) -> list[Value]:
    return values if len(values) == rows else [*values, *[MISSING] * rows][:rows]


def _readers(spec: TaskSpec, signature: Signature) -> dict[str, Reader]:
    readers: dict[str, Reader] = {}
    picture, columns, file = (getattr(spec, name, None) for name in ("input", "columns", "tokenizer"))
    names = [port.name for port in signature.inputs]
    if hasattr(picture, "channels") and len(names) == 1 and len(signature.inputs[0].shape) == 4:
        readers["picture"] = PictureReader(names[0], cast(PictureInput, picture))
    elif file is not None and {"input_ids", "attention_mask"} <= set(names):
        readers["text"] = TextReader(columns or ("text",), cast(Any, spec).file)  # a spec of texts
    elif hasattr(spec, "columns") and file is None:
        readers["table"] = CellReader(columns, getattr(spec, "layout", None), signature)
    else:
        readers["input"] = InputReader(names)
    readers["answer"] = AnswerReader(float(getattr(spec, "show_score", 0.0)))
    readers["output"] = OutputReader()
    return readers
