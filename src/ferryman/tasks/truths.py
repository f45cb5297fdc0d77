"""What readers of labelled pictures share: their settings and their form."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from ferryman.core.errors import DataError
from ferryman.core.task import Truth


@dataclass(frozen=True, slots=True)
class Labelling:
    """Say where the truths are: a label pattern relative to `folder`, a target column, the task's class names."""

    folder: Path
    pattern: str | None
    target: str | None
    labels: tuple[str, ...] | None
    limit: int | None


class TruthReader(Protocol):
    """Read the truths of pictures."""

    def __call__(self, files: Sequence[Path], labelling: Labelling) -> tuple[list[Path], list[Truth], list[Path]]:
        """Give at most `limit` pictures, the truth of each, and the files that the truths came from."""


def number_of(label: str, labels: tuple[str, ...] | None, where: str) -> int:
    """Give a class's number from its number or name in a file; raises DataError that starts with `where`.

    A label may list several names with commas between them ("tench, Tinca tinca"): one that no other label has will do.
    """
    if labels is not None and label in labels:
        return labels.index(label)
    try:
        number = int(label)
    except ValueError:
        if (named := _one_of_names(labels or ()).get(_plain(label))) is not None:
            return named
        near = difflib.get_close_matches(label, labels or (), n=1)
        hint = f"did you mean '{near[0]}'?" if near else "name the classes in [task] labels"
        raise DataError(f"{where}: '{label}' is neither a class number nor one of the labels", hint=hint) from None
    return check_number(number, labels, where)


@cache
def _one_of_names(labels: tuple[str, ...]) -> dict[str, int]:
    """Give the class of each name that only one label has."""
    names: dict[str, set[int]] = {}
    for number, label in enumerate(labels):
        for name in label.split(","):
            names.setdefault(_plain(name), set()).add(number)
    return {name: min(numbers) for name, numbers in names.items() if len(numbers) == 1}


def _plain(name: str) -> str:
    return name.replace("_", " ").strip().lower()


def check_number(number: int, labels: tuple[str, ...] | None, where: str) -> int:
    """Give the class number back, or raise DataError where there is no such class."""
    if number < 0 or (labels is not None and number >= len(labels)):
        top = "" if labels is None else f"; there are {len(labels)} labels, numbered from 0"
        raise DataError(
            f"{where}: class number {number} is out of range{top}", hint="give [task] labels a name for each class"
        )
    return number
