"""BentoML: one service with a method for each load."""

from pathlib import Path
from typing import Annotated, Any

import bentoml
import nets
import numpy as np
from bentoml.validators import ContentType


@bentoml.service(workers=1, traffic={"timeout": 120}, metrics={"enabled": True})
class Bench:
    """Answer T, M and D."""

    def __init__(self) -> None:
        self._tabular, self._mobile, self._detector = nets.Plain("T"), nets.Plain("M"), nets.Detector()

    @bentoml.api(route="/T")
    def answer_rows(self, rows: list[list[float]]) -> dict[str, Any]:
        """Answer T."""
        return {"scores": self._tabular(np.array(rows, np.float32)).tolist()}

    @bentoml.api(route="/M")
    def answer_tensor(self, root: Annotated[Path, ContentType("application/octet-stream")], /) -> dict[str, Any]:
        """Answer M from raw floats."""
        values = np.frombuffer(root.read_bytes(), np.float32).reshape(1, 3, 224, 224)
        return {"scores": self._mobile(values).tolist()}

    @bentoml.api(route="/Mjson")
    def answer_values(self, values: list[float]) -> dict[str, Any]:
        """Answer M as JSON."""
        return {"scores": self._mobile(np.array(values, np.float32).reshape(1, 3, 224, 224)).tolist()}

    @bentoml.api(route="/D")
    def answer_picture(self, root: Annotated[Path, ContentType("image/jpeg")], /) -> dict[str, Any]:
        """Answer D."""
        return self._detector(root.read_bytes())
