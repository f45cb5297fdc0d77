"""Score a table or folder with a bundle: what `ferryman score` does."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from ferryman import __version__
from ferryman.batch.chunk import Chunk, chunks
from ferryman.batch.finish import Figures, drop_parts, figures_of, join_parts, read_finished, write_refused
from ferryman.batch.journal import FIGURES, REFUSED, Entry, Journal
from ferryman.batch.layout import Layout, lay_out
from ferryman.batch.pool import Pool
from ferryman.batch.records import Records
from ferryman.batch.settings import PICTURES, ROWS, ScoreSettings
from ferryman.batch.source import Source, open_files
from ferryman.batch.table import is_table, open_table
from ferryman.batch.worker import Done, Opening
from ferryman.bundle.read import load_bundle
from ferryman.core.bundle import Bundle
from ferryman.core.durable import write_whole
from ferryman.core.errors import ConfigError, ContractBroken, DataError, InputError, MissingExtra, UserError
from ferryman.core.progress import Progress, silent
from ferryman.monitor.store.engine import is_installed

SUFFIXES = (".parquet", ".csv", ".jsonl")
_OTHERS = (".json", ".tsv", ".gz", ".txt", ".xlsx", ".arrow", ".feather", ".ferry")
_TELL_EVERY_S = 10.0
_ENOUGH_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Work:
    """Say what there is to do: of which bundle, on what, into which folder, and (`file`) one file at the end."""

    bundle: Bundle
    source: Source
    layout: Layout
    folder: Path
    file: Path | None
    chunk: int
    identity: dict[str, JsonValue]

    @property
    def name(self) -> str:
        """Name the work by all that its answers depend on."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Scored:
    """Hold what came of it: `figures` are those of score.json; `seconds` and `resumed_rows` are of this run."""

    figures: Figures
    folder: Path
    file: Path | None
    seconds: float
    resumed_rows: int
    deaths: int
    losses: dict[str, int]

    @property
    def has_drifted(self) -> bool:
        """Tell whether the input is not as the bundle's baseline."""
        drift = self.figures["drift"]
        return isinstance(drift, dict) and drift["verdict"] == "drift"


def plan_work(bundle: Path, given: str, out: Path, settings: ScoreSettings) -> Work:
    """Look at bundle, input and place; writes nothing. Raises UserError, ContractBroken."""
    if not is_installed():
        raise MissingExtra(
            "answers are written by DuckDB, which is not installed", hint="pip install 'ferryman[records]'"
        )
    opened = load_bundle(bundle)
    if not opened.proof.holds and not settings.allow_broken:
        raise ContractBroken(
            f"bundle {opened.manifest.name} does not keep its contract: {opened.proof.verdict}",
            hint="build it again, or take its answers all the same with --allow-broken",
        )
    if out.suffix in _OTHERS and not out.is_dir():
        raise ConfigError(f"{out} is no kind of file that is written", hint=f"a folder, or {', '.join(SUFFIXES)}")
    file = out if out.suffix in SUFFIXES else None
    is_files = not is_table(Path(given))
    takes_files = _takes_files(opened)
    if is_files != takes_files:
        what = "pictures: a folder, a glob or a list of files" if takes_files else f"rows: {', '.join(SUFFIXES)}"
        raise InputError(f"{given} is not what this model takes", hint=f"it takes {what}")
    source: Source = open_files(given) if is_files else open_table(Path(given))
    layout = lay_out(opened, source.columns, settings.keys, is_files=is_files)
    chunk = settings.chunk or (PICTURES if is_files else ROWS)
    options: dict[str, JsonValue] = {
        "chunk": chunk, "limit": settings.limit, "threads": settings.threads,
        "keys": [key.column for key in layout.keys], "ferryman": __version__,
    }  # fmt: skip
    identity: dict[str, JsonValue] = {
        "input": source.digest,
        "bundle": opened.manifest.digest,
        **{f"option {name}": value for name, value in options.items()},
    }
    folder = out if file is None else out.with_name(f"{out.name}.score")
    return Work(opened, source, layout, folder, file, chunk, identity)


def _takes_files(bundle: Bundle) -> bool:
    if bundle.golden:
        return not isinstance(bundle.golden[0].item, Mapping)
    return hasattr(getattr(bundle.deployment.task, "input", None), "channels")


def score(work: Work, settings: ScoreSettings, *, progress: Progress = silent) -> Scored:
    """Do what is left of the work; raises UserError, ContractBroken, or FerrymanError where workers keep dying."""
    began_s = time.monotonic()
    journal = Journal(work.folder, work.identity, again=settings.again)
    try:
        if settings.again and work.file is not None:
            work.file.unlink(missing_ok=True)
        if (finished := read_finished(journal, work.file)) is not None:
            drop_parts(journal)
            return Scored(finished, work.folder, work.file, 0.0, int(str(finished["rows"])), 0, {})
        if work.file is not None and work.file.exists():
            raise UserError(f"{work.file} is there, and not of this work", hint="--again replaces it; or name another")
        resumed = journal.rows
        if resumed:
            progress("scoring", note=f"{resumed:,} rows are there already")
        with Records(settings.monitor, work.bundle, work.name) as records:
            deaths = _score_rest(work, settings, journal, records, progress)
            losses = records.losses
        progress("finishing")
        write_refused(journal)
        _hold_to_share(journal, settings.max_refused, 0)
        figures = figures_of(work.bundle, journal, work.layout, work.source.digest)
        write_whole(journal.folder / FIGURES, (json.dumps(figures, indent=1) + "\n").encode())
        if work.file is not None:
            join_parts(journal, work.file)  # once the file is there, all is: a kill from here on loses nothing
            drop_parts(journal)
        seconds = time.monotonic() - began_s
        return Scored(figures, work.folder, work.file, seconds, resumed, deaths, losses)
    finally:
        journal.close()


def _score_rest(work: Work, settings: ScoreSettings, journal: Journal, records: Records, progress: Progress) -> int:
    """Answer the chunks that are not there; gives how many workers died."""
    opening = Opening(
        work.bundle.path, work.bundle.manifest.digest, settings.threads, work.layout, journal.unfinished,
        settings.monitor is not None,
    )  # fmt: skip
    total = work.source.total or 0
    total = min(total, settings.limit) if settings.limit and total else settings.limit or total
    pace = _Pace(progress, total, journal.rows)
    with Pool(opening, settings.workers, settings.patience_s) as pool:
        for found in pool.run(_todo(work, settings, journal)):
            records.tick()
            if found is None:
                continue
            chunk, done, killed = found
            records.add(chunk, done)
            journal.commit(chunk.number, _entry(work, chunk, done, killed), done.part)
            pace.add(len(chunk.rows))
            _hold_to_share(journal, settings.max_refused, max(_ENOUGH_ROWS, total))
        return pool.deaths


def _todo(work: Work, settings: ScoreSettings, journal: Journal) -> Iterator[Chunk]:
    number, start = journal.whole
    if settings.limit and start >= settings.limit:
        return
    rows = work.source.rows(start)
    for chunk in chunks(rows, work.chunk, number=number, start=start, limit=settings.limit):
        if chunk.number not in journal.done:
            yield chunk


def _entry(work: Work, chunk: Chunk, done: Done, killed: dict[int, str]) -> Entry:
    refused = [*done.refused, *((place, "killed", f"its worker {how}") for place, how in killed.items())]
    return {
        "start": chunk.start,
        "rows": len(chunk.rows),
        "sha256": done.sha256,
        "size": done.size,
        "window": done.window,
        "refused": [
            {"row": chunk.start + place, **_safe(work.layout.named(chunk.rows[place])), "why": why, "error": error}
            for place, why, error in sorted(refused)
        ],
    }


def _safe(named: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {"keys": {name: value[:200] if isinstance(value, str) else value for name, value in named.items()}}


def _hold_to_share(journal: Journal, share: float, least: int) -> None:
    """Raise DataError once more than a share is refused, of all rows or of so many as there will be."""
    rows, refused = journal.rows, journal.refused
    if refused <= share * max(rows, least) or not refused:
        return
    write_refused(journal)
    first = next(row for entry in journal.entries() for row in entry["refused"])
    raise DataError(
        f"{refused:,} of {rows:,} rows were refused, over {share:g} of all: row {first['row']}: {first['error']}",
        hint=f"{journal.folder / REFUSED} has them all; --max-refused takes more, and goes on from here",
    )


class _Pace:
    """Tell how far it is, how fast, and how long it will take."""

    def __init__(self, progress: Progress, total: int, done: int) -> None:
        self._progress, self._total, self._done, self._before = progress, total, done, done
        self._began_s = self._told_s = time.monotonic()

    def add(self, rows: int) -> None:
        self._done += rows
        self._progress("scoring", done=self._done, total=self._total)
        now_s = time.monotonic()
        if now_s - self._told_s < _TELL_EVERY_S:
            return
        self._told_s = now_s
        rate = (self._done - self._before) / (now_s - self._began_s)
        left = f", {(self._total - self._done) / rate:,.0f} s left" if self._total and rate else ""
        of = f" of {self._total:,}" if self._total else ""
        self._progress("scoring", note=f"{self._done:,}{of} rows, {rate:,.0f} rows/s{left}")
