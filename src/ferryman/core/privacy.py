"""Keep libraries that we load from reporting to their makers."""

import sys
from types import ModuleType
from typing import cast


def forbid_telemetry() -> None:
    """Make OpenVINO and NNCF fall back on their silent stand-in; call it before each import of theirs.

    Importing openvino alone otherwise writes an id into the home folder and posts events to an analytics service,
    unless the user has opted out beforehand. Both do without their telemetry package where it is not importable.
    """
    sys.modules.setdefault("openvino_telemetry", cast("ModuleType", None))
