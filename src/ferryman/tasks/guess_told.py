"""Write `[task]` where the source itself tells it: paths as ferryman.toml needs them, columns as the table has them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_TARGETS = ("label", "labels", "target", "class", "y", "score", "similarity")
_TEXTS = ("text", "sentence", "review", "content", "title", "question", "premise")


def told_guess(
    told: Mapping[str, Any], source: Path, folder: Path, columns: Sequence[str], target: str | None
) -> dict[str, Any]:
    """Give the fields of a Guess; the tokenizer's path is relative to `folder` where it lies below."""
    spec = dict(told["spec"])
    guess: dict[str, Any] = {
        "spec_toml": spec, "reasons": list(told["reasons"]), "questions": list(told["questions"]), "target": target,
    }  # fmt: skip
    if "tokenizer" in spec:
        file, base = (source / spec["tokenizer"]).resolve(), folder.resolve()
        spec["tokenizer"] = file.relative_to(base).as_posix() if file.is_relative_to(base) else str(file)
        if columns:
            _name_columns(guess, columns)
    return guess


def _name_columns(guess: dict[str, Any], columns: Sequence[str]) -> None:
    spec, target = guess["spec_toml"], guess["target"]
    if target is None:
        target = next((name for name in columns if name.lower() in _TARGETS), columns[-1])
        guess["target"] = target
        guess["reasons"].append(f"'{target}' is the column with the truth: so it is called, or it is the last")
    rest = [name for name in columns if name != target]
    if len(rest) == 2 and spec["kind"] == "embed":
        spec["pairs"] = rest
        guess["reasons"].append(f"two columns beside '{target}': pairs of texts, and how alike they are")
        return
    chosen = rest if len(rest) == 1 else [name for name in rest if name.lower() in _TEXTS][:1]
    if not chosen:
        guess["questions"].append(f"Which of {', '.join(rest)} is the text? Set columns = ['...']; two are a pair.")
    elif chosen != ["text"]:
        spec["columns"] = chosen
        guess["reasons"].append(f"the evaluation table calls the text '{chosen[0]}', and so will requests")
