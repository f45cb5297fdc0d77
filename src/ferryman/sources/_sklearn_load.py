"""Load scikit-learn estimators from skops files, and from pickles where the user trusts them."""

import re
from pathlib import Path
from typing import Any

from ferryman.core.errors import SourceError
from ferryman.sources._content import is_pickle, looks_like, zip_names

Estimator = Any  # sklearn.base.BaseEstimator: scikit-learn has no types that mypy reads
_KNOWN_TYPES = re.compile(
    r"sklearn\.(?!datasets|utils\._testing)[\w.]+|numpy\.(random\.)?[a-zA-Z]\w*|scipy\.(sparse|stats|special|interpolate)\.[\w.]+"
)


def is_skops(path: Path) -> bool:
    """Tell whether this is a zip as skops writes it."""
    return "schema.json" in zip_names(path)


def trusted_types(path: Path, *, trust: bool) -> list[str]:
    """List the types that a skops file needs beyond skops' own list.

    Raises SourceError where one is neither scikit-learn's, numpy's nor scipy's, unless the user trusts the file.
    """
    import skops.io

    try:
        types = sorted(skops.io.get_untrusted_types(file=path))
    except Exception as error:  # noqa: BLE001 - skops raises anything for a damaged archive
        words = " ".join(str(error).split())[:200]
        raise SourceError(
            f"{path} is no sound skops file: {type(error).__name__}: {words}", hint="save it again with skops.io.dump"
        ) from None
    strange = [name for name in types if not _KNOWN_TYPES.fullmatch(name)]
    if strange and not trust:
        raise SourceError(
            f"{path} holds types that Ferryman doesn't know to be harmless: {', '.join(strange[:5])}",
            hint="if you know where the file comes from, set [model] trust = true: loading it can run their code",
        )
    return types


def load_estimator(path: Path, *, trust: bool) -> Estimator:
    """Load a fitted estimator; nothing in the file is run unless the user trusts it."""
    if is_skops(path):
        return _load_skops(path, trust=trust)
    if not is_pickle(path):
        raise SourceError(
            f"{path} is not a scikit-learn model: it looks like {looks_like(path)}", hint="save it with skops.io.dump"
        )
    if not trust:
        raise SourceError(
            f"{path} is a pickle; opening a pickle runs whatever code is in it",
            hint="convert it where you trust it: skops.io.dump(joblib.load('model.pkl'), 'model.skops'); "
            "or set [model] trust = true if you know where it comes from",
        )
    return _load_pickle(path)


def _load_skops(path: Path, *, trust: bool) -> Estimator:
    import skops.io

    types = trusted_types(path, trust=trust)
    try:
        return skops.io.load(path, trusted=types)
    except Exception as error:  # an estimator of another version may fail in any way
        words = " ".join(str(error).split())[:200]
        raise SourceError(
            f"{path} can't be loaded: {type(error).__name__}: {words}",
            hint="was it saved by another version of scikit-learn? save it again with this one",
        ) from error


def _load_pickle(path: Path) -> Estimator:
    import joblib  # type: ignore[import-untyped]  # it ships no types

    try:
        return joblib.load(path)
    except Exception as error:  # unpickling runs the file's own code
        words = " ".join(str(error).split())[:200]
        raise SourceError(
            f"{path} can't be unpickled: {type(error).__name__}: {words}",
            hint="it may be cut short, or need packages (or versions) that are not installed here",
        ) from error
