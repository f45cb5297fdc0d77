"""Call converter libraries so that whatever they raise becomes a StepError and their notes stay away."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from ferryman.core.artifact import Artifact
from ferryman.core.errors import FerrymanError, StepError


@contextmanager
def converting(source: Artifact) -> Iterator[None]:
    """Turn a converter's failure into a StepError that names the model; hide its notes on its own dependencies."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=FutureWarning)
            yield
    except FerrymanError:
        raise
    except Exception as error:  # converters raise anything, from AttributeError to RuntimeError
        words = " ".join(str(error).split())[:300]
        raise StepError(
            f"{source.path.name} can't be converted from '{source.format}' to ONNX: {type(error).__name__}: {words}",
            hint="export the model to ONNX yourself and name that file as the source",
        ) from error
