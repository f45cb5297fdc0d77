"""Checks by the kserve SDK's two clients, in the environment that the user names: it doesn't fit beside ours."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ferryman.conformance.broken import NotTried, expect
from ferryman.conformance.case import Case
from ferryman.conformance.check import Check
from ferryman.conformance.clients import tls_files
from ferryman.conformance.tensors import NOT_IN_JSON, compare, from_json

_PROGRAM = Path(__file__).with_name("kserve_program.py")


def _ask(*, is_grpc: bool, is_binary: bool = False) -> Callable[[Case], None]:
    def run(case: Case) -> None:
        target = case.target
        if target.kserve_python is None:
            raise NotTried("no environment with the kserve SDK is named: --kserve-python PATH")
        if any(tensor.datatype in NOT_IN_JSON for tensor in case.inputs):
            raise NotTried("inputs in FP16 or BF16 are not handed over to the SDK")
        order = {
            "url": target.url,
            "grpc": target.grpc,
            "model": case.model,
            "headers": dict(target.headers),
            "timeout_s": target.timeout_s,
            "tls": {name: str(file) for name, file in tls_files(target).items()} if target.is_tls else None,
            "is_grpc": is_grpc,
            "is_binary": is_binary or is_grpc,
            "inputs": [tensor.to_json() for tensor in case.inputs],
        }
        told = _run(target.kserve_python, json.dumps(order), timeout_s=target.timeout_s + 60)
        if "missing" in told:
            raise NotTried(f"{target.kserve_python} can't import kserve: {told['missing']}")
        expect("error" not in told, f"the SDK raises {told.get('error')}")
        for fact in ("live", "ready", "model_ready"):
            expect(told[fact] is True, f"'{fact}' is {told[fact]!r}")
        expect(told["id"] == "k-1", f"the request's id comes back as {told['id']!r}")
        outputs = {str(entry["name"]): from_json(entry) for entry in told["outputs"]}
        compare(case.wanted, outputs, way="kserve")

    return run


def _run(python: Path, order: str, *, timeout_s: float) -> dict[str, Any]:  # JSON
    try:
        ended = subprocess.run(  # noqa: S603 - the interpreter that the user named
            [python, _PROGRAM], input=order, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except OSError as error:
        raise NotTried(f"{python} can't be run: {error.strerror}") from None
    try:
        told = json.loads(ended.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        raise NotTried(f"the SDK's process ends with {ended.returncode}: {ended.stderr[-200:]}") from None
    return dict(told)


_SAYS = "live, ready, model ready, infer with an id"
CHECKS = (
    Check("kserve.http", "kserve InferenceRESTClient: JSON", _SAYS, "REST: Inference", _ask(is_grpc=False)),
    Check("kserve.http-binary", "kserve InferenceRESTClient: bytes", _SAYS, "Binary Tensor Data Extension",
          _ask(is_grpc=False, is_binary=True), extension="binary_tensor_data"),
    Check("kserve.grpc", "kserve InferenceGRPCClient", _SAYS, "GRPC: Inference", _ask(is_grpc=True), needs_grpc=True),
)  # fmt: skip
