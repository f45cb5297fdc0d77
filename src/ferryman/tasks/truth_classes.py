"""Read classes of pictures: from a CSV file, or from the folder that each picture is in."""

from collections.abc import Sequence
from pathlib import Path

from ferryman.core.errors import DataError
from ferryman.core.task import Truth
from ferryman.tasks.files import PICTURE_SUFFIXES, find_files, refuse_unlabelled, spread
from ferryman.tasks.listed_pictures import Entry, match_entries
from ferryman.tasks.rows import read_table
from ferryman.tasks.truths import Labelling, number_of

_FILE_COLUMNS = ("file", "image", "path", "filename", "file_name")
_CLASS_COLUMNS = ("class_index", "class", "label", "target")


def read_csv_classes(files: Sequence[Path], labelling: Labelling) -> tuple[list[Path], list[Truth], list[Path]]:
    """Give pictures, their class numbers, and the CSV file (`file,label`: a number or a name).

    Where items are the CSV file itself, its pictures are relative to its folder. Other pictures are found by their
    path, else by a name that only one of them has.
    """
    is_listed = len(files) == 1 and files[0].suffix == ".csv"
    if labelling.pattern is None and not is_listed:
        raise DataError("a CSV of classes is missing", hint="set data.evaluation labels = 'labels.csv'")
    path = files[0]
    if labelling.pattern is not None:
        path = find_files(labelling.pattern, labelling.folder, key="data.evaluation.labels")[0]
    columns, rows = read_table(path)
    file_column = _column(_FILE_COLUMNS, columns, path, None)
    class_column = _column(_CLASS_COLUMNS, columns, path, labelling.target)
    entries = [
        Entry(row[file_column], row[class_column], f"{path}, line {place + 2}") for place, row in enumerate(rows)
    ]
    if is_listed:
        files = [path.parent / entry.file for entry in entries]
        if absent := [str(picture) for picture in files if not picture.is_file()]:
            raise DataError(
                f"{path} names {len(absent)} pictures that are not there, first {absent[0]}",
                hint="pictures are looked for beside the CSV file",
            )
    classes = match_entries(files, entries, (path.parent, labelling.folder))
    pictures = [files[place] for place in spread(len(files), labelling.limit)]
    refuse_unlabelled([str(picture) for picture in pictures if picture not in classes], len(pictures), str(path))
    truths: list[Truth] = [
        number_of(classes[picture].said, labelling.labels, classes[picture].where) for picture in pictures
    ]
    return pictures, truths, [path]


def read_folder_classes(files: Sequence[Path], labelling: Labelling) -> tuple[list[Path], list[Truth], list[Path]]:
    """Give pictures and class numbers by the names of their folders.

    A folder is called as its label, or by its number; without labels, folders are numbered in sorted order.
    """
    files = [path for path in files if path.suffix.lower() in PICTURE_SUFFIXES]
    folders = sorted({path.parent.name for path in files})
    if len(folders) < 2:
        raise DataError(
            f"the pictures are all in one folder ({', '.join(folders) or 'none'}), so their classes are not known",
            hint="set data.evaluation labels = 'labels.csv', or items = 'val/*/*.jpg' with one folder a class",
        )
    pictures = [files[place] for place in spread(len(files), labelling.limit)]
    if labelling.labels is None and not all(name.isdigit() for name in folders):
        numbers = {name: place for place, name in enumerate(folders)}
    else:
        numbers = {name: number_of(name, labelling.labels, f"folder '{name}'") for name in folders}
    truths: list[Truth] = [numbers[path.parent.name] for path in pictures]
    return pictures, truths, []


def _column(known: tuple[str, ...], columns: Sequence[str], path: Path, wanted: str | None) -> str:
    if wanted is not None:
        known = (wanted,)
    found = next((name for name in known if name in columns), None)
    if found is None:
        raise DataError(f"{path} has no column '{known[0]}'", hint=f"it has {', '.join(columns)}")
    return found
