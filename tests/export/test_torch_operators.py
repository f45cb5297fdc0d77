"""Every ONNX operator in torch, against ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from ferryman.core.signature import Array
from ferryman.export._torch.graph import read_graph
from ferryman.export._torch.module import OPS, OnnxModule
from ferryman.export._torch.program import export, quiet
from ferryman.sources._onnx_graph import signature_of
from tests.export.torch_cases import CASES, Case, write

NEEDS_SIZES = {"Range", "ConstantOfShape"}  # in graphs of their own, where sizes come from somewhere


def _runtime(path: Path, feed: dict[str, Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    answers: list[Array] = session.run(None, feed)
    return answers


def _module(path: Path, case: Case) -> Any:  # OnnxModule: torch's types are skipped by mypy
    signature = write(case, path)
    graph = read_graph(path, [spec.name for spec in signature.outputs], frozenset(OPS), step="step")
    return OnnxModule(graph, signature, step="step").eval()


@pytest.mark.parametrize("case", [case for case in CASES if case.op not in NEEDS_SIZES], ids=str)
def test_an_operator_computes_what_onnx_runtime_computes(case: Case, tmp_path: Path) -> None:
    module = _module(tmp_path / "case.onnx", case)
    with torch.no_grad():
        answer = module(*(torch.from_numpy(value) for value in case.feed.values()))
    got = [answer] if isinstance(answer, torch.Tensor) else list(answer)
    for wanted, given in zip(_runtime(tmp_path / "case.onnx", case.feed), got, strict=True):
        assert given.numpy().dtype == wanted.dtype
        np.testing.assert_allclose(
            given.numpy(), np.asarray(wanted, dtype=given.numpy().dtype), rtol=case.tolerance, atol=case.tolerance
        )


def test_every_operator_has_a_case() -> None:
    assert {case.op for case in CASES} | NEEDS_SIZES >= OPS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("op", sorted(OPS.keys() - NEEDS_SIZES))
def test_an_operator_is_traced_with_a_batch_that_varies(op: str, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.op == op)
    module = _module(tmp_path / "case.onnx", case)
    inputs = [torch.from_numpy(value) for value in case.feed.values()]
    wanted = module(*inputs)
    module.seal()
    program = export(module, signature_of(onnx.load(tmp_path / "case.onnx")), step="step")
    with quiet():
        torch.testing.assert_close(program.module()(*inputs), wanted, equal_nan=True)
