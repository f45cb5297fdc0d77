"""Write the folders from which Triton, MLServer and TorchServe start."""

import json
import os
import subprocess
import sys
from pathlib import Path

_MODELS = ("T", "M", "D")
_TRITON_MODEL = """name: "{name}"
backend: "python"
max_batch_size: {batch}
input [{{ name: "{given}" data_type: {kind} dims: {dims} }}]
output [{{ name: "{made}" data_type: {made_kind} dims: {made_dims} }}]
instance_group [{{ count: 1 kind: KIND_CPU }}]
{batching}
"""
_BATCHING = "dynamic_batching { max_queue_delay_microseconds: 2000 }"


def lay_out_triton(folder: Path, python: Path, scripts: Path, *, http_port: int, grpc_port: int) -> list[str]:
    """Write a model repository; gives the command that serves it."""
    shapes = {
        "T": ("rows", "TYPE_FP32", "[ 30 ]", "scores", "TYPE_FP32", "[ 2 ]", 128),
        "M": ("picture", "TYPE_FP32", "[ 1, 3, 224, 224 ]", "scores", "TYPE_FP32", "[ 1, 1000 ]", 0),
        "D": ("jpeg", "TYPE_STRING", "[ 1 ]", "found", "TYPE_STRING", "[ 1 ]", 0),
    }
    for name, (given, kind, dims, made, made_kind, made_dims, batch) in shapes.items():
        version = folder / "repository" / name / "1"
        version.mkdir(parents=True, exist_ok=True)
        for source, target in (("triton_python.py", "model.py"), ("nets.py", "nets.py")):
            (version / target).write_text((scripts / source).read_text(encoding="utf-8"), encoding="utf-8")
        text = _TRITON_MODEL.format(
            name=name,
            batch=batch,
            given=given,
            kind=kind,
            dims=dims,
            made=made,
            made_kind=made_kind,
            made_dims=made_dims,
            batching=_BATCHING if batch else "",
        )
        (version.parent / "config.pbtxt").write_text(text, encoding="utf-8")
    site = next((python.parent.parent / "lib").glob("python3*")) / "site-packages"
    home = site / "pytriton" / "tritonserver"
    stub = home / "python_backend_stubs" / site.parent.name.removeprefix("python") / "triton_python_backend_stub"
    backend = _copy_backend(home, stub, folder)
    libraries = f"LD_LIBRARY_PATH={site / 'nvidia_pytriton.libs'}:{home / 'external_libs'}"
    found = f"PYTHONPATH={scripts}:{site}"
    server = [str(home / "bin" / "tritonserver"), f"--model-repository={folder / 'repository'}"]
    server += [f"--backend-directory={backend}", f"--http-port={http_port}", f"--grpc-port={grpc_port}"]
    server += ["--http-address=127.0.0.1", "--allow-metrics=true", f"--metrics-port={grpc_port + 1}"]
    return ["env", libraries, found, *server, "--exit-timeout-secs=5", "--log-verbose=0"]


def _copy_backend(home: Path, stub: Path, folder: Path) -> Path:
    """Link the backend beside the stub of this interpreter; gives the folder of backends."""
    target = folder / "backends" / "python"
    target.mkdir(parents=True, exist_ok=True)
    for file in (*(home / "backends" / "python").iterdir(), stub):
        link = target / file.name
        link.unlink(missing_ok=True)
        link.symlink_to(file)
    return target.parent


def lay_out_mlserver(folder: Path, *, http_port: int, grpc_port: int) -> None:
    """Write its settings and those of each model."""
    settings = {"host": "127.0.0.1", "http_port": http_port, "grpc_port": grpc_port, "metrics_port": grpc_port + 1}
    settings |= {"debug": False, "grpc_max_message_length": 64 << 20, "metrics_rest_server_prefix": "rest"}
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    for name in _MODELS:
        (folder / name).mkdir(exist_ok=True)
        model = {"name": name, "implementation": f"mlserver_runtime.{'Detector' if name == 'D' else 'Plain'}"}
        (folder / name / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")


def lay_out_torchserve(folder: Path, python: Path, scripts: Path, *, port: int) -> list[str]:
    """Archive each model and write the settings; gives the command. Raises CalledProcessError."""
    store = folder / "store"
    store.mkdir(parents=True, exist_ok=True)
    config = [f"inference_address=http://127.0.0.1:{port}", f"management_address=http://127.0.0.1:{port + 2}"]
    config += [f"metrics_address=http://127.0.0.1:{port + 3}", "disable_token_authorization=true"]
    config += [f"grpc_inference_port={port + 1}", f"grpc_management_port={port + 4}", "default_workers_per_model=1"]
    config += [
        "max_request_size=67108864",
        "install_py_dep_per_model=false",
        "disable_system_metrics=true",
        "job_queue_size=1000",
    ]
    (folder / "config.properties").write_text("\n".join(config) + "\n", encoding="utf-8")
    for name in ("T", "M", "Mjson", "D"):
        if not (store / f"{name}.mar").exists():
            archiver = [str(python.parent / "torch-model-archiver"), "--model-name", name, "--version", "1.0"]
            archiver += ["--handler", str(scripts / "torchserve_handler.py"), "--export-path", str(store)]
            path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
            subprocess.run(archiver, check=True, stdout=sys.stderr, env={**os.environ, "PATH": path})
    models = [f"{name}={name}.mar" for name in ("T", "M", "Mjson", "D")]
    start = [str(python.parent / "torchserve"), "--start", "--foreground", "--model-store", str(store)]
    return [*start, "--ts-config", str(folder / "config.properties"), "--ncs", "--models", *models]
