"""Run a converter's program and a runtime's program, and tell what they did that they have no business with."""

import importlib.util
import sys
from typing import Any


def watch(request: dict[str, Any], tell: Any) -> dict[str, Any]:
    """Convert and answer; give the connections, processes and modules that an audit hook saw."""
    seen: list[str] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith("socket.") or event in (
            "os.system",
            "subprocess.Popen",
            "os.posix_spawn",
            "urllib.Request",
        ):
            seen.append(f"{event} {arguments[0] if arguments else ''}")

    sys.addaudithook(hook)
    _load(request["converter"]).convert(request["asked"], tell)
    outputs = _load(request["runtime"]).Model(request["loaded"], tell).infer(request["inputs"])
    return {"seen": seen, "modules": sorted(sys.modules), "outputs": outputs}


def _load(path: str) -> Any:
    spec = importlib.util.spec_from_file_location("watched", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
