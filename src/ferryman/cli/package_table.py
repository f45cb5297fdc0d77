"""Write what an image holds, or would hold, for a terminal."""

from collections.abc import Sequence

from ferryman import api
from ferryman.verify.columns import Cell, Column, Paint, rows


def image_table(made: api.Packaged) -> str:
    """Write a line a layer with its megabytes, then where the image is and how to run it."""
    if not made.digest:
        return f"{made.output} holds a Dockerfile for {made.reference}\n{made.hint}\n"
    lines: list[str] = []
    for image in made.images:
        lines.append(f"{image.platform}, Python {image.python}, on {image.base}")
        columns = [
            Column("layer", tuple(Cell(part.name) for part in image.parts), is_text=True),
            Column("MB", tuple(Cell(_mb(part.size)) for part in image.parts)),
            Column("unpacked", tuple(Cell(_mb(part.size_unpacked)) for part in image.parts)),
            Column("", tuple(Cell("new" if part.is_new else "as it was") for part in image.parts), is_text=True),
        ]
        lines += [f"  {line}" for line in rows(columns, Paint(False))]
        lines += [f"  {_mb(image.size)} MB, {_mb(image.size_unpacked)} MB unpacked; {image.digest}"]
        lines += [f"  note: {note}" for note in image.notes]
    where = " and ".join(
        [*([f"in {made.output}"] if made.output else []), *([f"pushed as {made.reference}"] if made.pushed else [])]
    )
    lines += [f"{made.reference} {where}: {made.digest}", made.hint]
    return "\n".join(lines) + "\n"


def plan_table(planned: Sequence[api.Planned]) -> str:
    """Write which packages would go in, and where the image would go."""
    lines: list[str] = []
    for one in planned:
        lines.append(f"{one.platform}, Python {one.python}, on {one.base}")
        lines += [f"  {name} {version}" for name, version in one.packages.items()]
        lines.append(f"  the bundle, {_mb(one.bundle_bytes)} MB")
        lines += [f"  note: {note}" for note in one.notes]
    first = planned[0]
    goes = " and ".join(
        [*([f"written to {first.output}"] if first.output else []), *(["pushed"] if first.pushed else [])]
    )
    lines.append(f"{first.reference} would be {goes}")
    return "\n".join(lines) + "\n"


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f}"
