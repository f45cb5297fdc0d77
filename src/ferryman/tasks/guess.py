"""Guess a model's task from the shapes and names of its tensors, and say why."""

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ferryman.core.artifact import Artifact
from ferryman.core.errors import ConfigError
from ferryman.core.signature import Signature, TensorSpec
from ferryman.tasks.guess_boxes import BoxGuess, guess_boxes
from ferryman.tasks.guess_told import told_guess
from ferryman.tasks.labels import read_labels
from ferryman.tasks.names import COCO80

_LABEL_FILES = ("*.names", "labels*.txt", "classes*.txt", "*labels*.txt", "*classes*.txt", "labels.json")
_TABLE_OUTPUTS = {"label", "probabilities", "prediction", "output_label", "output_probability", "variable"}
_SMALL = 100  # digits, CIFAR: such pictures are taken whole, and not cropped as ImageNet's are
_TARGET_NAMES = {"class", "target", "label", "y"}


@dataclass(slots=True)
class Guess:
    """Hold the `[task]` section as TOML values, why it says so, what to check, and a table's column with the truth."""

    spec_toml: dict[str, Any]  # TOML values
    reasons: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    target: str | None = None


@dataclass(frozen=True, slots=True)
class TableHeader:
    """Hold the columns of the evaluation table, and which of them the user says is the truth."""

    columns: Sequence[str] = ()
    target: str | None = None


@dataclass(frozen=True, slots=True)
class _Picture:
    """Hold what an input says of the pictures that it takes."""

    layout: str
    channels: int
    height: int | None
    width: int | None
    dtype: str

    @property
    def takes_pixels(self) -> bool:
        """Tell whether the input is of whole numbers: then a quantized model has the scaling inside."""
        return self.dtype in ("uint8", "int8")


def guess_task(
    artifact: Artifact, *, folder: Path, metadata: Mapping[str, str] | None = None, header: TableHeader | None = None
) -> Guess:
    """Guess the `[task]` section; label files are looked for in `folder`. `metadata` is read from ONNX by default."""
    if told := artifact.loader.get("told"):
        header = header or TableHeader()
        return Guess(**told_guess(told, artifact.path, folder, header.columns, header.target))
    known = artifact.loader.get("last_operators", {})
    notes, last_operators = _read_onnx(artifact.path) if artifact.format == "onnx" else ({}, known)
    notes = {**notes, **(metadata or {})}
    signature = artifact.signature
    picture = _picture_of(signature)
    if picture is not None:
        boxes = guess_boxes(signature, (picture.height, picture.width), _class_count(notes))
        if boxes is not None:
            return _as_told(_detect(picture, boxes, notes, folder), artifact)
        scores = _score_output(signature)
        if scores is not None:
            return _as_told(_classify(picture, scores, last_operators.get(scores[0], ""), notes, folder), artifact)
    if {port.name for port in signature.outputs} & _TABLE_OUTPUTS:
        return _tabular(artifact, header or TableHeader())
    inputs = ", ".join(f"{port.name} {list(port.shape)}" for port in signature.inputs)
    outputs = ", ".join(f"{port.name} {list(port.shape)}" for port in signature.outputs)
    return Guess(
        {"kind": "tensor"},
        [f"inputs {inputs} and outputs {outputs} are no layout of pictures, boxes or tables that is known"],
        ["If they mean pictures, boxes or a table, say so: kind = classify, detect or tabular."],
    )


def _read_onnx(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Give the file's metadata, and the operator that makes each output."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    last = {port.name: makers.get(port.name, "") for port in model.graph.output}
    return {entry.key: entry.value for entry in model.metadata_props}, last


def _picture_of(signature: Signature) -> _Picture | None:
    if len(signature.inputs) != 1 or len(signature.inputs[0].shape) != 4:
        return None
    port = signature.inputs[0]
    _, second, third, fourth = port.shape
    if isinstance(second, int) and second in (1, 3):
        return _Picture("NCHW", second, _fixed(third), _fixed(fourth), port.dtype)
    if isinstance(fourth, int) and fourth in (1, 3):
        return _Picture("NHWC", fourth, _fixed(second), _fixed(third), port.dtype)
    return None


def _fixed(size: int | str) -> int | None:
    return size if isinstance(size, int) else None


def _class_count(notes: Mapping[str, str]) -> int | None:
    names = _named_classes(notes)
    return None if names is None else len(names)


def _named_classes(notes: Mapping[str, str]) -> tuple[str, ...] | None:
    """Read the `names` that some trainers write into a model: {0: 'person', 1: ...}, or a list."""
    try:
        names = ast.literal_eval(notes.get("names", ""))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[place] for place in range(len(names))]
    if not isinstance(names, list) or not names:
        return None
    return tuple(str(name) for name in names)


def _detect(picture: _Picture, boxes: BoxGuess, notes: Mapping[str, str], folder: Path) -> Guess:
    guess = Guess({"kind": "detect", "decoder": boxes.decoder}, [boxes.reason], list(boxes.questions))
    _add_labels(guess, boxes.class_count, notes, folder)
    is_raw = boxes.decoder == "yolox"
    image = _image(picture, guess)
    image |= {"fit": "letterbox", "anchor": "top-left" if is_raw else "center", "pad": 114}
    if picture.channels == 3:
        image["channels"] = "BGR" if is_raw else "RGB"
    if not picture.takes_pixels:
        image["scale"] = 1.0 if is_raw else 1 / 255
    habit = "BGR of 0-255, top-left" if is_raw else "RGB of 0-1, centred"
    guess.reasons.append(f"{boxes.decoder} models are usually trained on letterboxed {habit}")
    guess.questions.append("Is [task] input what the model was trained with (colour order, scale, padding)?")
    guess.spec_toml["input"] = image
    if boxes.decoder not in ("nms", "end2end"):
        guess.spec_toml["nms"] = {"iou": 0.65, "score": 0.01}
    return guess


def _classify(
    picture: _Picture, scores: tuple[str, int], last_operator: str, notes: Mapping[str, str], folder: Path
) -> Guess:
    output, count = scores
    guess = Guess({"kind": "classify"}, [f"a picture goes in and output '{output}' has {count} numbers: a class each"])
    _add_labels(guess, count, notes, folder)
    image = _image(picture, guess)
    image["fit"] = "crop"
    if picture.height and picture.height == picture.width and picture.height > _SMALL:
        image["resize_short"] = round(picture.height * 256 / 224)
    if picture.channels == 3:
        image["channels"] = "RGB"
    if not picture.takes_pixels:
        image["scale"] = 1 / 255
        if picture.channels == 3:
            image |= {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
        guess.questions.append(
            "Was it trained with ImageNet's mean and std on RGB of 0-1? If not, change [task] input."
        )
    guess.spec_toml["input"] = image
    is_done = last_operator in ("Softmax", "Sigmoid") or any(word in output.lower() for word in ("prob", "softmax"))
    guess.spec_toml["activation"] = "none" if is_done else "softmax"
    ending = f"the graph ends with {last_operator}" if last_operator else f"the output is called '{output}'"
    guess.reasons.append(f"{ending}, so activation = {guess.spec_toml['activation']}")
    if count == 1001:
        guess.questions.append(
            "1001 classes usually mean ImageNet with a background first: are the labels so too? Class numbers of other "
            "files are then one too low; take their names instead (--target name)."
        )
    return guess


def _as_told(guess: Guess, artifact: Artifact) -> Guess:
    """Take scale, mean and std from a model that says how it takes pictures."""
    if told := artifact.loader.get("picture"):
        kept = {key: value for key, value in guess.spec_toml["input"].items() if key not in ("scale", "mean", "std")}
        guess.spec_toml["input"] = kept | dict(told)
        guess.questions = [question for question in guess.questions if "mean and std" not in question]
        pixels = "pixels of 0-255" if told.get("scale", 1.0) == 1.0 else "pixels of 0-1"
        guess.reasons.append(f"the model itself brings {pixels} into the range that it computes with")
    return guess


def _image(picture: _Picture, guess: Guess) -> dict[str, Any]:  # TOML values
    image: dict[str, Any] = {}  # TOML values
    if picture.height and picture.width:
        image["size"] = [picture.height, picture.width]
    else:
        image["size"] = [224, 224] if guess.spec_toml["kind"] == "classify" else [640, 640]
        guess.questions.append(f"The model takes any size; is {image['size']} (height, width) the one to serve?")
    if picture.channels == 1:
        image["channels"] = "GRAY"
    image["layout"] = picture.layout
    if picture.takes_pixels:
        guess.reasons.append(f"the input is {picture.dtype}: pixels go in as they are, the model scales them itself")
        if picture.dtype == "int8":
            image["mean"] = [128.0]
    return image


def _add_labels(guess: Guess, count: int | None, notes: Mapping[str, str], folder: Path) -> None:
    names = _named_classes(notes)
    if names is not None and (count is None or len(names) == count):
        guess.spec_toml["labels"] = "coco80" if names == COCO80 else list(names)
        guess.reasons.append(f"the model's metadata names its {len(names)} classes")
        return
    file = _label_file(folder, count)
    if file is not None:
        guess.spec_toml["labels"] = file
        guess.reasons.append(f"{file} has {count} names, as many as the model has classes")
    elif count == len(COCO80) and guess.spec_toml["kind"] == "detect":
        guess.spec_toml["labels"] = "coco80"
        guess.reasons.append("80 classes of a detector are almost always COCO's")
    else:
        guess.questions.append(f"What are the {count or ''} classes called? Set labels = 'FILE', one name a line.")


def _label_file(folder: Path, count: int | None) -> str | None:
    if count is None or not folder.is_dir():
        return None
    for pattern in _LABEL_FILES:
        for path in sorted(folder.glob(pattern)):
            try:
                if len(read_labels(path)) == count:
                    return path.name
            except ConfigError:
                continue
    return None


def _score_output(signature: Signature) -> tuple[str, int] | None:
    fitting = [port for port in signature.outputs if _count_of(port) is not None]
    return (fitting[0].name, _count_of(fitting[0]) or 0) if len(fitting) == 1 else None


def _count_of(port: TensorSpec) -> int | None:
    """Give the classes of an output [N, C] or [N, C, 1, 1]."""
    if len(port.shape) not in (2, 4) or not port.dtype.startswith(("float", "uint8")):
        return None
    count = port.shape[1]
    is_flat = all(size == 1 for size in port.shape[2:])
    return count if isinstance(count, int) and count > 1 and is_flat else None


def _tabular(artifact: Artifact, header: TableHeader) -> Guess:
    signature = artifact.signature
    names = [port.name for port in signature.outputs]
    guess = Guess({"kind": "tabular"}, [f"outputs {', '.join(names)} are those of a model of table rows"])
    aliases = {"output_label": "label", "output_probability": "probabilities", "variable": "prediction"}
    outputs = {aliases[name]: name for name in names if name in aliases}
    if outputs:
        guess.spec_toml["outputs"] = outputs
    first = signature.inputs[0]
    if len(signature.inputs) == 1 and len(first.shape) == 2 and first.shape[1] != 1:
        _name_columns(guess, artifact, first.shape[1], header)
    else:
        guess.reasons.append("each column has an input of its own, so columns are known by the inputs' names")
        inputs = [port.name for port in signature.inputs]
        guess.target = _find_target(guess, inputs, len(inputs), header)
    if artifact.loader.get("classes"):
        guess.reasons.append(f"the model itself names its classes: {', '.join(artifact.loader['classes'][:8])}")
    elif "prediction" not in names and "variable" not in names:
        guess.questions.append("What are the classes called, in the order of the probabilities? Set labels = ['...'].")
    return guess


def _name_columns(guess: Guess, artifact: Artifact, count: int | str, header: TableHeader) -> None:
    """Write `columns` as the model names them, or else as the evaluation table does, where it has as many."""
    types = artifact.loader.get("column_types", {})
    known = _as_spelled(artifact.loader.get("feature_names") or tuple(types), header.columns)
    guess.target = _find_target(guess, known, count, header)
    rest = [name for name in header.columns if name != guess.target]
    if known:
        guess.spec_toml["columns"] = list(known)
        guess.reasons.append("the model itself names its columns")
        guess.reasons += [f"  {name}: {kind}" for name, kind in types.items()]
    elif rest and len(rest) == count:
        guess.spec_toml["columns"] = rest
        guess.reasons.append(
            f"the evaluation table has {count} columns that are not its target, as many as the model takes"
        )
        guess.questions.append("Are [task] columns in the order of training? They are in the evaluation table's.")
    else:
        guess.questions.append(
            f"What are the {count} columns called, in the order of training? Set columns = ['...', ...]."
        )


def _as_spelled(known: Sequence[str], columns: Sequence[str]) -> Sequence[str]:
    """Give the model's names as the table spells them: LightGBM writes an underscore for a space."""
    spelled = {re.sub(r"\s", "_", name): name for name in columns}
    if len(spelled) != len(columns):
        return known
    return [name if name in columns else spelled.get(name, name) for name in known]


def _find_target(guess: Guess, known: Sequence[str], count: int | str, header: TableHeader) -> str | None:
    if header.target is not None or not header.columns:
        return header.target
    if len(header.columns) != (int(count) + 1 if isinstance(count, int) else -1):
        guess.questions.append("Which column of the evaluation table is the truth? Set target in [data] evaluation.")
        return None
    rest = [name for name in header.columns if name not in known]
    named = [name for name in header.columns if name.lower() in _TARGET_NAMES]
    if known and len(rest) == 1:
        target, why = rest[0], "the only column of the evaluation table that the model doesn't take"
    elif len(named) == 1:
        target, why = named[0], "called as the truth usually is"
    else:
        target, why = header.columns[-1], "the last column of the evaluation table"
        guess.questions.append(f"Is '{target}' the column with the truth? If not, give --target.")
    guess.reasons.append(f"'{target}' is {why}, so it is the target")
    return target
