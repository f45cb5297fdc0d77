"""Tell a server, or the folder that it keeps, what turned out to be true."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ferryman.client.access import NOBODY, Access
from ferryman.client.admin import Admin
from ferryman.core.errors import UserError
from ferryman.monitor.performance.feedback import read_feedback, write_feedback
from ferryman.monitor.performance.files import read_rows
from ferryman.monitor.performance.watch import PerformanceWatch
from ferryman.monitor.store.engine import connect

_MOST_BYTES = 48_000  # of one request to a server
_FOR_EVER_DAYS = 36_500.0  # what a folder keeps is its server's to decide


def feedback(
    source: str | Path | Sequence[Mapping[str, Any]],  # JSON
    where: str | Path,
    *,
    access: Access = NOBODY,
) -> dict[str, Any]:  # JSON
    """Give feedback to a server's admin address, or to the folder that it was given for monitoring.

    `source` is a CSV, JSON or Parquet file, or rows: `id`, one of `truth`, `right` and `objects`, and `item` and `at`
    where they matter. Gives `taken` and `replaced`, and how it stands (`feedback`, `versions`): a server joins within
    seconds, a folder is joined here. Raises InputError for a wrong row, before anything is taken.
    """
    rows = read_rows(Path(source)) if isinstance(source, str | Path) else source
    now_s = time.time()
    read = read_feedback(rows, now_s)
    if str(where).startswith(("http://", "https://")):
        admin = Admin(str(where), access=access)
        told = [admin.feedback(part) for part in _parts(write_feedback(read))]
        stands = admin.performance()
    else:
        folder = Path(where)
        if not (folder / "records").is_dir():
            raise UserError(
                f"{folder} holds no records", hint="name what `ferryman serve --monitor` was given, or its URL"
            )
        connect().close()  # without DuckDB nothing could be joined
        watch = PerformanceWatch(folder, keep_days=_FOR_EVER_DAYS)
        try:
            told = [watch.take(read, now_s)] if read else []
            watch.join(now_s)
            watch.refresh({}, now_s)
            stands = watch.tell()
        finally:
            watch.close()
    counts = {name: sum(each[name] for each in told) for name in ("taken", "replaced")}
    return {**counts, **stands}


def _parts(rows: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:  # JSON
    part: list[dict[str, Any]] = []  # JSON
    size = 0
    for row in rows:
        row_bytes = len(json.dumps(row)) + 2
        if part and size + row_bytes > _MOST_BYTES:
            yield part
            part, size = [], 0
        part.append(row)
        size += row_bytes
    if part:
        yield part
