"""Signals of texts: length, language, and how much of them the tokenizer knows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import orjson

from ferryman.core.task import Item
from ferryman.monitor.signals.asked import MISSING, Asked, Found
from ferryman.monitor.signals.languages import guess_language

_READ_CHARACTERS = 1000


class TextReader:
    """Read `text.characters`, `text.language`, `text.tokens` and `text.unknown` of each text (or pair of texts).

    Tokens, and the share of them that the tokenizer doesn't know, are of what the model is given: of a longer text the
    part that is left. Tensors that a caller made have no characters and no language.
    """

    def __init__(self, columns: Sequence[str], file: Path) -> None:
        self._columns = columns
        self._file = file
        self._lock = Lock()
        self._unknown: int | None = None
        self._is_read = False

    def read(self, asked: Asked) -> Found:
        """Give the signals `text.*` of each text."""
        mask = np.asarray(asked.inputs["attention_mask"])[: asked.rows] != 0
        tokens = mask.sum(axis=1)
        found: Found = {"text.tokens": tokens.astype(float).tolist()}
        unknown = self._unknown_token()
        if unknown is not None:
            strange = (np.asarray(asked.inputs["input_ids"])[: asked.rows] == unknown) & mask
            found["text.unknown"] = (strange.sum(axis=1) / np.maximum(tokens, 1)).tolist()
        texts = [self._text(item) for item in asked.items or ()] or [None] * asked.rows
        found["text.characters"] = [MISSING if text is None else float(len(text)) for text in texts]
        found["text.language"] = [None if text is None else guess_language(text[:_READ_CHARACTERS]) for text in texts]
        return found

    def _text(self, item: Item) -> str | None:
        if not isinstance(item, Mapping):
            return None
        return " ".join(str(item[column]) for column in self._columns if column in item)

    def _unknown_token(self) -> int | None:
        """Give the number of the token for what the tokenizer doesn't know; None where it knows everything."""
        with self._lock:
            if not self._is_read:
                self._unknown = _find_unknown(orjson.loads(self._file.read_bytes()))
                self._is_read = True
            return self._unknown


def _find_unknown(tokenizer: dict[str, Any]) -> int | None:  # JSON
    model = tokenizer["model"]
    if isinstance(model.get("unk_id"), int):
        return int(model["unk_id"])
    name = model.get("unk_token")
    if name is None:
        return None
    for token in tokenizer.get("added_tokens", ()):
        if token["content"] == name:
            return int(token["id"])
    number = model["vocab"].get(name)
    return None if number is None else int(number)
