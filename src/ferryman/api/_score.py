"""Score a whole table or folder."""

from pathlib import Path
from typing import Unpack

from ferryman.batch.run import Scored, Work, plan_work
from ferryman.batch.run import score as score_work
from ferryman.batch.settings import ScoreChoices, ScoreSettings
from ferryman.core.progress import Progress, silent


def plan_score(bundle: str | Path, given: str | Path, out: str | Path, **settings: Unpack[ScoreChoices]) -> Work:
    """Look at what scoring would do; writes nothing."""
    return plan_work(Path(bundle), str(given), Path(out), ScoreSettings(**settings))


def score(
    bundle: str | Path,
    given: str | Path,
    out: str | Path,
    *,
    progress: Progress = silent,
    **settings: Unpack[ScoreChoices],
) -> Scored:
    """Answer every row of a table, or every picture of a folder, into a folder of Parquet files, or one file.

    Killed, it goes on where it was when it is called again. Raises UserError, ContractBroken.
    """
    chosen = ScoreSettings(**settings)
    return score_work(plan_work(Path(bundle), str(given), Path(out), chosen), chosen, progress=progress)
