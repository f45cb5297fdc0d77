"""Where `ferryman infer --draw` writes its pictures."""

from collections.abc import Sequence
from pathlib import Path

from ferryman.core.errors import UserError
from ferryman.core.task import Item

_PICTURES = (".png", ".jpg", ".jpeg")


def pair_with_destinations(items: Sequence[tuple[str, Item]], out: Path) -> list[tuple[Path, Path]]:
    """Pair each picture with the file to draw; several pictures go into a folder under their own names."""
    pictures = [item for _, item in items if isinstance(item, Path)]
    if len(pictures) != len(items):
        raise UserError("--draw needs pictures", hint="leave --draw out for tables and arrays")
    if len(pictures) == 1 and out.suffix.lower() in _PICTURES:
        return [(pictures[0], out)]
    if out.is_file() or out.suffix.lower() in _PICTURES:
        raise UserError(f"--draw can't make one file, {out}, of {len(pictures)} pictures", hint="name a folder")
    if out.suffix:
        raise UserError(f"--draw can't write '{out.suffix}' pictures ({out})", hint="name a folder, .png or .jpg")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"can't write to {out}: {error.strerror}", hint="choose another folder") from None
    return [(path, out / f"{index:03d}-{path.stem}.png") for index, path in enumerate(pictures)]
