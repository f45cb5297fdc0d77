"""`ferryman conformance` ends with the code that says what came out."""

import argparse
import json
import socket
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ferryman.cli.conformance import add_arguments, run
from ferryman.core.errors import ConfigError, UserError
from tests.conformance_v2.honest_grpc import honest_grpc
from tests.conformance_v2.honest_http import honest_http


def conformance(*words: str) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quiet", action="store_true")
    add_arguments(parser)
    return run(parser.parse_args(["--quiet", "--timeout-s", "5", *words]))


def test_an_honest_server_gives_0_and_a_file_for_ci(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with honest_http() as url, honest_grpc() as address:
        assert conformance(url, "--grpc", address, "--junit", str(tmp_path / "junit.xml")) == 0
    table = capsys.readouterr().out
    assert "infer.nested" in table
    assert "not run: " in table
    assert ElementTree.parse(tmp_path / "junit.xml").getroot().attrib["failures"] == "0"


def test_a_lie_gives_3_and_the_json_says_which(capsys: pytest.CaptureFixture[str]) -> None:
    with honest_http("no id") as url:
        assert conformance(url, "--model", "sum", "--json") == 3
    told = json.loads(capsys.readouterr().out)
    failed = {check["id"] for check in told["checks"] if check["result"] == "failed"}
    assert told["conforms"] is False
    assert {"infer.id", "triton-http.json", "triton-http.async", "triton-http.aio-json"} <= failed


def test_nobody_there_is_the_users_mistake() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(UserError, match="nobody listens at") as refused:
        conformance(url)
    assert refused.value.exit_code == 2


def test_models_are_unloaded_only_where_that_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with honest_http() as url:
        for asked in ((), ("--may-unload",)):
            conformance(url, "--json", *asked)
    told = [json.loads(line)["checks"] for line in capsys.readouterr().out.splitlines()]
    left_out = [{one["id"] for one in checks if "--may-unload" in one["message"]} for checks in told]
    assert left_out == [{"repository.reload", "repository.unknown"}, set()]


def test_given_inputs_are_asked_instead_of_made_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = {"inputs": [{"name": "rows", "shape": [4, 3], "datatype": "FP32", "data": list(range(12))}]}
    (tmp_path / "request.json").write_text(json.dumps(request))
    with honest_http() as url:
        assert conformance(url, "--inputs", f"sum={tmp_path / 'request.json'}") == 0
        with pytest.raises(ConfigError, match="is not a request"):
            conformance(url, "--inputs", f"sum={Path(__file__)}")
    assert "✗" not in capsys.readouterr().out
