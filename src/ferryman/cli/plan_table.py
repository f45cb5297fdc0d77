"""Write what a build would try for a terminal."""

from ferryman import api
from ferryman.build.plan import Candidate
from ferryman.verify.columns import Cell, Column, Paint, rows, wrap
from ferryman.verify.figures import NOT_MEASURED, plain


def render_plan(plan: api.Plan, *, width: int, color: bool) -> str:
    """Write a line a candidate (its cost, its targets, its steps) and what each target may get."""
    paint = Paint(color)
    candidates = plan.candidates
    columns = [
        Column(
            "candidate", tuple(Cell(one.name, "dim" if one.unavailable else "") for one in candidates), is_text=True
        ),
        Column("takes", tuple(Cell(_cost(one)) for one in candidates)),
    ]
    if plan.targets:
        columns.append(Column("for", tuple(Cell(", ".join(one.targets)) for one in candidates), is_text=True))
    steps = tuple(
        Cell(one.unavailable, "yellow")
        if one.unavailable
        else Cell(" -> ".join((plan.source_format, *one.steps)) if one.steps else _as_it_is(one))
        for one in candidates
    )
    lines = rows([*columns, Column("steps", steps, is_text=True)], paint)
    for target in plan.targets:
        names = ", ".join(plan.names_for(target)) or "nothing that can be made here"
        lines += wrap(f"for {plain(target)}: {names}", width)
    return "\n".join(lines) + "\n"


def _as_it_is(candidate: Candidate) -> str:
    return "as it is" if candidate.precision == "fp32" else f"as it is ({candidate.precision})"


def _cost(candidate: Candidate) -> str:
    if candidate.unavailable:
        return NOT_MEASURED
    return "cached" if candidate.is_made and candidate.steps else f"~{candidate.cost_s:.0f} s"
