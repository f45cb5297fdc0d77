"""The suite says true things: an honest server passes, and each lie is caught by the check that it is about."""

import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from ferryman.conformance.check import Check, Result
from ferryman.conformance.report import as_json, as_junit, breaks
from ferryman.conformance.suite import CHECKS, run_suite
from ferryman.conformance.target import Target
from ferryman.conformance.tensors import DTYPES, Tensor, from_bytes, from_json, make_tensors
from ferryman.core.errors import NotReady
from tests.conformance_v2.honest_grpc import honest_grpc
from tests.conformance_v2.honest_http import honest_http

HTTP_ONLY = [check for check in CHECKS if not check.needs_grpc]


def named(*prefixes: str) -> list[Check]:
    return [check for check in CHECKS if check.id.startswith(prefixes)]


def verdicts(target: Target, checks: Sequence[Check] = CHECKS) -> dict[str, Result]:
    return {result.check.id: result for result in run_suite(target, checks=checks)}


def test_an_honest_server_passes_over_both_protocols() -> None:
    with honest_http() as url, honest_grpc() as address:
        results = verdicts(Target(url, grpc=address, timeout_s=5))
    assert {name: result.message for name, result in results.items() if result.verdict == "failed"} == {}
    assert sum(result.verdict == "passed" for result in results.values()) >= 65
    assert all(result.message for result in results.values() if result.verdict == "not run")


@pytest.mark.parametrize(
    ("lie", "check"),
    [
        ("unknown is 500", "http.unknown-model"),
        ("errors are 200", "refuse.short"),
        ("errors are bare", "refuse.not-json"),
        ("no id", "infer.id"),
        ("no id", "triton-http.json"),
        ("shape", "infer.described"),
        ("wrong over binary", "binary.in"),
        ("wrong over binary", "triton-http.binary"),
        ("wrong over binary", "triton-http.aio-binary"),
    ],
)
def test_a_lie_over_http_is_caught(lie: str, check: str) -> None:
    with honest_http(lie) as url:
        results = verdicts(Target(url, timeout_s=5), named(check))
    assert results[check].verdict == "failed"
    assert results[check].message


@pytest.mark.parametrize(
    ("lie", "check"), [("errors are INTERNAL", "grpc.datatype"), ("wrong where typed", "grpc.typed")]
)
def test_a_lie_over_grpc_is_caught(lie: str, check: str) -> None:
    with honest_http() as url, honest_grpc(lie) as address:
        results = verdicts(Target(url, grpc=address, timeout_s=5), named(check))
    assert results[check].verdict == "failed"


def test_what_is_not_run_says_why() -> None:
    with honest_http() as url:
        results = verdicts(Target(url, timeout_s=5), named("grpc.raw", "kserve.http", "triton-http.config"))
    assert "--grpc" in results["grpc.raw"].message
    assert "--kserve-python" in results["kserve.http"].message
    assert "model_configuration" in results["triton-http.config"].message
    assert {result.verdict for result in results.values()} == {"not run"}


def test_an_environment_without_the_sdk_is_told_apart_from_a_server_that_fails() -> None:
    with honest_http() as url:
        target = Target(url, timeout_s=5, kserve_python=Path(sys.executable))
        result = verdicts(target, named("kserve.http"))["kserve.http"]
    assert result.verdict == "not run"
    assert "can't import kserve" in result.message


def test_an_optional_failure_does_not_break_the_protocol() -> None:
    check = named("triton-http.gzip")[0]
    failed = Result(check, "sum", "failed", "wrong", 0.1)
    assert breaks([failed]) == []
    assert breaks([Result(named("infer.id")[0], "sum", "failed", "wrong", 0.1)]) != []


def test_a_server_that_nobody_runs_can_not_be_reached() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        target = Target(f"http://127.0.0.1:{free.getsockname()[1]}", timeout_s=2)
    with pytest.raises(NotReady, match="nobody listens at"):
        list(run_suite(target))


def test_reports_hold_every_result() -> None:
    with honest_http("no id") as url:
        target = Target(url, timeout_s=5)
        results = list(run_suite(target, checks=named("infer.", "triton-http.gzip")))
        told = as_json(target, results)
    suite = ElementTree.fromstring(as_junit(target, results))
    assert (told["conforms"], told["failed"]) == (False, 1)
    assert len(told["checks"]) == len(results) == len(suite) == int(suite.attrib["tests"])
    assert [case.attrib["name"] for case in suite if case.find("failure") is not None] == ["infer.id[sum]"]


def test_every_check_has_a_name_of_its_own() -> None:
    assert len({check.id for check in CHECKS}) == len(CHECKS)
    assert all(check.title and check.says and check.section for check in CHECKS)


@pytest.mark.parametrize("datatype", DTYPES)
def test_a_made_tensor_survives_both_of_its_forms(datatype: str) -> None:
    [tensor] = make_tensors([{"name": "x", "datatype": datatype, "shape": [-1, 3]}], free_size=2)
    for back in (from_bytes(tensor.head(), tensor.to_bytes()), from_json(tensor.to_json(is_nested=True))):
        assert isinstance(back, Tensor)
        assert np.array_equal(back.array, tensor.array)
