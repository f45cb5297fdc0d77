"""What is wanted of a cloud, as JSON, against what is there: only what was asked for is compared."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from ferryman.core.target import Change
from ferryman.targets.compare import compare_text
from ferryman.targets.yaml import write_yaml

Json = dict[str, Any]  # a JSON object

SPEC = "ferryman-spec"
"""The label or tag that holds the digest of what was asked for: it tells what is no longer asked for, too."""


def short_digest(value: Json) -> str:
    """Give ten hexadecimal signs that stand for a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:10]


def is_named_for(name: str, base: str) -> bool:
    """Tell whether a name is the one that stands for what is wanted, or one of its later tries (base-2, ...)."""
    return re.fullmatch(rf"{re.escape(base)}(-\d+)?", name) is not None


def like(there: Any, wanted: Any) -> Any:  # JSON values
    """Give what is there of what is wanted: a cloud adds its own fields, and leaves out those that are empty.

    Words that differ in capitals alone are alike: some clouds answer "Auto" to "auto".
    """
    if isinstance(there, str) and isinstance(wanted, str) and there.casefold() == wanted.casefold():
        return wanted
    if isinstance(wanted, Mapping):
        if not isinstance(there, Mapping):
            return wanted if not wanted and there is None else there
        known = {key: like(there.get(key), value) for key, value in wanted.items()}
        return {key: value for key, value in known.items() if value is not None}
    if isinstance(wanted, list) and isinstance(there, list):
        both = [like(old, new) for old, new in zip(there, wanted, strict=False)]
        return both + there[len(wanted) :]
    if there is None and not wanted:
        return wanted
    return there


def compare_json(what: str, there: Json | None, wanted: Json | None) -> Change:
    """Set one thing's JSON side by side, as YAML; None where it isn't there, or shouldn't be."""
    before = None if there is None else write_yaml(there if wanted is None else like(there, wanted))
    return compare_text(what, before, None if wanted is None else write_yaml(wanted))


def served(landing_threads: int, drain_s: float, options: tuple[str, ...]) -> list[str]:
    """Give the words that the image's server is started with."""
    threads = ["--threads", str(landing_threads)] if landing_threads else []
    return ["serve", "--drain-s", f"{drain_s:g}", *threads, *options]
