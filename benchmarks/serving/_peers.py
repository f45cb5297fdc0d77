"""Who is measured: how each is started, how it is asked, what it can be asked."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.serving import _asks, _layouts
from benchmarks.serving._models import build_bundles, engines
from benchmarks.serving._venvs import python_of, versions_of, why_missing

_HTTP = ("T", "T1", "M", "Mjson", "D")
_CANDIDATES = {
    "ferryman": ("onnx-fp32",),
    "ferryman-openvino": ("openvino-fp32",),
    "ferryman-built": ("onnx-fp32", "openvino-fp32"),
}
_SCRIPTS = Path(__file__).resolve().parent / "peers"


@dataclass(frozen=True, slots=True)
class Place:
    """Say where a server runs: its models, its ports (gRPC may have one of its own), a folder for what it writes."""

    bench: Path
    models: Path
    scratch: Path
    port: int

    @property
    def grpc_port(self) -> int:
        """Give the second port."""
        return self.port + 1


@dataclass(frozen=True, slots=True)
class Peer:
    """Describe a server. `one_port` means that gRPC is answered where HTTP is."""

    name: str
    title: str
    venv: str
    command: Callable[[Place, Path], list[str]]  # Path: the interpreter of its environment
    form: _asks.Form
    loads: tuple[str, ...] = _HTTP
    package: str = ""
    one_port: bool = True
    ready_path: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    def why_missing(self, bench: Path) -> str:
        """Say why it can't be run here; "" where it can."""
        if "openvino-fp32" in _CANDIDATES.get(self.name, ()) and importlib.util.find_spec("openvino") is None:
            return "openvino is not installed"
        return why_missing(self.venv, bench) if self.venv else ""

    def version(self, bench: Path) -> str:
        """Give the version of what is measured."""
        if self.venv:
            return versions_of(self.venv, bench).get(self.package, "")
        from ferryman import __version__

        return __version__

    def start_command(self, place: Place) -> list[str]:
        """Give the command that starts it; may write what it reads into `place.scratch`."""
        place.scratch.mkdir(parents=True, exist_ok=True)
        return self.command(place, python_of(self.venv, place.bench))

    def environ(self, place: Place) -> dict[str, str]:
        """Give the environment that it gets: little, and one thread for whatever asks for more."""
        kept = ("PATH", "LANG", "LC_ALL", "PYTHONPATH") if not self.venv else ("LANG", "LC_ALL")
        own = {name: os.environ[name] for name in kept if name in os.environ}
        if self.venv:
            own["PATH"] = f"{python_of(self.venv, place.bench).parent}:{os.environ['PATH']}"
        ports = {"BENCH_PORT": str(place.port), "BENCH_GRPC_PORT": str(place.grpc_port)}
        folders = {"BENCH_MODELS": str(place.models), "HOME": str(place.scratch), "TMPDIR": str(place.scratch)}
        return {**own, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **ports, **folders, **self.environment}


def _script(name: str, *arguments: str) -> Callable[[Place, Path], list[str]]:
    def command(place: Place, python: Path) -> list[str]:
        return [str(python), str(_SCRIPTS / name), *(part.format(port=place.port) for part in arguments)]

    return command


def ferryman_candidates(name: str) -> tuple[str, ...]:
    """Give what Ferryman's bundles are built from."""
    return _CANDIDATES[name]


def ferryman_engines(name: str, bench: Path, models: Path) -> dict[str, str]:
    """Give what Ferryman's bundles hold."""
    return engines(build_bundles(bench, models, ferryman_candidates(name)))


def _ferryman(name: str) -> Callable[[Place, Path], list[str]]:
    def command(place: Place, _: Path) -> list[str]:
        bundles = build_bundles(place.bench, place.models, ferryman_candidates(name))
        # Everything that is on by default stays on. `--threads 1` is the one core that every peer is given.
        serve = [sys.executable, "-m", "ferryman", "serve", *map(str, bundles), "--host", "127.0.0.1"]
        return [*serve, "--port", str(place.port), "--threads", "1"]

    return command


def _triton(place: Place, python: Path) -> list[str]:
    return _layouts.lay_out_triton(place.scratch, python, _SCRIPTS, http_port=place.port, grpc_port=place.grpc_port)


def _mlserver(place: Place, python: Path) -> list[str]:
    _layouts.lay_out_mlserver(place.scratch, http_port=place.port, grpc_port=place.grpc_port)
    return [str(python.parent / "mlserver"), "start", str(place.scratch)]


def _bentoml(place: Place, python: Path) -> list[str]:
    target = "bentoml_service:Bench"
    return [str(python.parent / "bentoml"), "serve", target, "--working-dir", str(_SCRIPTS), "--port", str(place.port)]


def _torchserve(place: Place, python: Path) -> list[str]:
    return _layouts.lay_out_torchserve(place.scratch, python, _SCRIPTS, port=place.port)


def _found_by(*folders: Path) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join(map(str, folders))}


_FERRYMEN = tuple(
    Peer(
        name,
        title,
        "",
        _ferryman(name),
        _asks.ferryman,
        loads=(*_HTTP, "Tgrpc"),
        ready_path="/v2/health/ready",
        note=f"everything that is on by default; {note}",
    )
    for name, title, note in (
        ("ferryman", "Ferryman, ONNX Runtime", "the same engine as its peers"),
        ("ferryman-openvino", "Ferryman, OpenVINO", "float32 as well"),
        ("ferryman-built", "Ferryman, engine chosen by its build", "its build timed both, float32, on this machine"),
    )
)

PEERS: Mapping[str, Peer] = {
    peer.name: peer
    for peer in (
        *_FERRYMEN,
        Peer(
            "raw",
            "uvloop + httptools",
            "raw",
            _script("raw_uvloop.py"),
            _asks.plain,
            package="uvloop",
            note="a floor, not a server: no routing, limits, metrics or queue",
        ),
        Peer(
            "fastapi",
            "FastAPI + ONNX Runtime",
            "fastapi",
            _script("fastapi_ort.py"),
            _asks.plain,
            package="fastapi",
            note="uvicorn with uvloop, one process",
        ),
        Peer(
            "mosec",
            "mosec",
            "mosec",
            _script("mosec_batch.py", "--port", "{port}", "--address", "127.0.0.1"),
            _asks.plain,
            package="mosec",
            note="T batched, up to 128 gathered for 2 ms",
        ),
        Peer(
            "triton",
            "Triton, Python backend",
            "triton",
            _triton,
            _asks.v2_tensors,
            loads=(*_HTTP, "Tgrpc"),
            package="nvidia-pytriton",
            one_port=False,
            environment=_found_by(_SCRIPTS),
            note="the server of the PyTriton wheel, which has no ONNX Runtime backend; T batched, queue delay 2 ms",
        ),
        Peer(
            "grpc-aio",
            "grpc.aio",
            "grpc",
            _script("grpc_aio.py"),
            _asks.over_grpc,
            loads=("Tgrpc",),
            package="grpcio",
            note="one method and nothing else; D is not loaded",
        ),
        Peer(
            "mlserver",
            "MLServer",
            "mlserver",
            _mlserver,
            _asks.v2_text_picture,
            loads=("T", "T1", "Tgrpc", "Mjson", "D"),
            package="mlserver",
            one_port=False,
            environment=_found_by(_SCRIPTS),
            note="no binary tensors over HTTP; one worker process, its default",
        ),
        Peer(
            "litserve",
            "LitServe",
            "litserve",
            _script("litserve_api.py"),
            _asks.forms,
            package="litserve",
            note="bytes go as a file of a form, the only way; no batching, which made it slower",
        ),
        Peer("bentoml", "BentoML", "bentoml", _bentoml, _asks.json_out, package="bentoml", note="no batching"),
        Peer(
            "kserve",
            "KServe's Python server",
            "kserve",
            _script("kserve_models.py"),
            _asks.v2_text_picture,
            loads=(*_HTTP, "Tgrpc"),
            package="kserve",
            one_port=False,
            note="D's JPEG in base64: its binary extension takes no bytes that are not text",
        ),
        Peer(
            "ray",
            "Ray Serve",
            "ray",
            _script("ray_serve.py"),
            _asks.plain,
            package="ray",
            environment={"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"},
            note="one deployment of one replica with all three models",
        ),
        Peer(
            "torchserve",
            "TorchServe",
            "torchserve",
            _torchserve,
            _asks.torchserve,
            package="torchserve",
            environment=_found_by(_SCRIPTS),
            note="one worker a model; no longer maintained",
        ),
    )
}


def tools_missing() -> str:
    """Say what of the system is missing; "" where nothing is."""
    for tool, package in (("h2load", "nghttp2-client"), ("taskset", "util-linux")):
        if shutil.which(tool) is None:
            return f"{tool} is missing: install {package}"
    if (os.cpu_count() or 1) < 2:
        return "two cores are needed, 0 for the server and 1 for the load"
    return ""
