"""Keep libraries that we load from reporting to their makers."""

import os
import sys
from types import ModuleType
from typing import cast


def forbid_telemetry() -> None:
    """Have OpenVINO, NNCF and ONNX Runtime report nothing; call it before each import of theirs.

    Importing openvino alone otherwise writes an id into the home folder and posts events to an analytics service,
    unless the user has opted out beforehand. It and NNCF do without their telemetry package where it isn't importable.
    ONNX Runtime (1.31) keeps an id and events in ~/.cache/Microsoft, and posts them, unless it is told not to.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    sys.modules.setdefault("openvino_telemetry", cast("ModuleType", None))
