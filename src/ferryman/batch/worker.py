"""A process that answers chunks: `python -m ferryman.batch SOCKET`; it ends with the process that started it."""

import os
import sys
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from ferryman.batch.chunk import Chunk
from ferryman.batch.layout import Layout
from ferryman.batch.model import Asked, Call, Model
from ferryman.batch.part import write_part
from ferryman.batch.window import Summary, Window
from ferryman.core.errors import FerrymanError
from ferryman.core.record import Columns


@dataclass(frozen=True, slots=True)
class Opening:
    """Say what a worker loads, how it lays answers out, and where it writes them."""

    bundle: Path
    digest: str
    threads: int
    layout: Layout
    folder: Path
    keeps_records: bool


@dataclass(frozen=True, slots=True)
class Order:
    """Ask for a chunk without the rows at `skipped`; to be written, or (`is_probe`) only to see what becomes of it."""

    chunk: Chunk
    skipped: frozenset[int] = frozenset()
    is_probe: bool = False


@dataclass(frozen=True, slots=True)
class Trouble:
    """Carry an error that the user is to see."""

    text: str
    hint: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class Done:
    """Hold what became of a chunk: its part in a file that nobody knows yet, what was refused, what it looked like.

    `columns` and `calls` are there where records are kept.
    """

    number: int
    part: Path = Path()
    sha256: str = ""
    size: int = 0
    refused: tuple[tuple[int, str, str], ...] = ()
    window: Summary = field(default_factory=dict)
    columns: Columns = field(default_factory=dict)
    calls: tuple[Call, ...] = ()


def main() -> None:
    """Load the bundle, then answer until the other end is closed."""
    link = Connection(int(sys.argv[1]))
    os.dup2(2, 1)  # what a library prints is no answer
    try:
        opening: Opening = link.recv()
        try:
            model = Model(opening.bundle, opening.digest, threads=opening.threads)
        except FerrymanError as error:
            link.send(Trouble(str(error), error.hint, error.exit_code))
            return
        window = None
        if model.baseline is not None:
            window = Window(model.baseline, model.bundle.deployment.contract.drift)
        link.send(None)
        while True:
            order: Order = link.recv()
            try:
                link.send(_answer(model, window, opening, order))
            except FerrymanError as error:
                link.send(Trouble(str(error), error.hint, error.exit_code))
    except (EOFError, ConnectionError):
        return


def _answer(model: Model, window: Window | None, opening: Opening, order: Order) -> Done:
    chunk, layout = order.chunk, opening.layout
    places = [place for place in range(len(chunk.rows)) if place not in order.skipped]
    asked = model.ask([layout.item(chunk.rows[place]) for place in places], places)
    if order.is_probe:
        return Done(chunk.number)
    rows = (
        layout.written(chunk.start + place, chunk.rows[place], asked.answers[place]) for place in sorted(asked.answers)
    )
    part = opening.folder / f"{chunk.number:06d}.{os.getpid()}.parquet"
    sha256, size = write_part(part, layout.columns, rows)
    return Done(
        chunk.number,
        part,
        sha256,
        size,
        tuple((place, *asked.refused[place]) for place in sorted(asked.refused)),
        _summary(window, asked, chunk),
        asked.columns if opening.keeps_records else {},
        tuple(asked.calls) if opening.keeps_records else (),
    )


def _summary(window: Window | None, asked: Asked, chunk: Chunk) -> Summary:
    return {"rows": 0} if window is None else window.summarise(asked.columns, len(asked.answers), chunk.number)
