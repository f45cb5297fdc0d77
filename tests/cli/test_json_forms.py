"""What programs read from `--json` keeps its keys: a key that goes, or is named anew, breaks somebody's script."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.bundle.making import bundle_affine
from tests.cli.running import ferryman
from tests.server.running import Running, running

KEY = {"id", "name", "scopes", "models", "rate_per_s", "burst", "created", "expires"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_affine(tmp_path_factory.mktemp("json") / "affine").path


def told(*words: str) -> dict[str, object]:
    answer: dict[str, object] = json.loads(ferryman(*words, "--json").stdout)
    return answer


def test_keys(tmp_path: Path) -> None:
    file = ("--file", str(tmp_path / "keys.json"))
    assert set(told("keys", "add", "web", *file)) == KEY | {"token"}
    assert set(told("keys", "rotate", "web", *file)) == KEY | {"token"}
    listed = told("keys", "list", *file)["keys"]
    assert isinstance(listed, list) and set(listed[0]) == KEY
    assert set(told("keys", "revoke", "web", *file)) == {"revoked"}


def test_infer_and_a_server_s_verbs(bundle: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "values.npz", values=np.ones((1, 3), np.float32))
    values = str(tmp_path / "values.npz")
    assert set(told("infer", str(bundle), values)) == {"input", "answer"}
    with running([bundle], admin_port=0) as server:
        assert set(told("infer", server.url, values)) == {"input", "answer"}
        assert set(told("rollout", "status", "--admin", server.admin_url)) == {"rollouts"}
        check_conformance(server)


def check_conformance(server: Running) -> None:
    found = told("conformance", server.url)
    assert set(found) == {"url", "grpc", "server", "conforms", "passed", "failed", "not_run", "checks"}
    checks = found["checks"]
    assert isinstance(checks, list) and set(checks[0]) == {
        "id", "title", "says", "section", "model", "extension", "required", "result", "message", "seconds",
    }  # fmt: skip


def test_tune_s_plan_and_inspect(bundle: Path) -> None:
    planned = told("tune", str(bundle), "--dry-run")
    assert set(planned) == {"candidates", "rounds"}
    assert set(told("inspect", str(bundle))) == {
        "path", "manifest", "deployment", "signature", "made_by", "proof", "golden", "tolerance", "baseline",
        "versions",
    }  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        ("infer", "http://127.0.0.1:1", "nothing.npz"),
        ("rollout", "status", "--admin", "http://127.0.0.1:1"),
        ("conformance", "http://127.0.0.1:1"),
        ("serve", "nothing"),
        ("tune", "nothing"),
        ("keys", "list", "--file", "nothing"),
        ("tune", "nothing", "--budget", "1"),
    ],
)
def test_an_error_has_its_words_and_the_way_out(words: tuple[str, ...]) -> None:
    found = told(*words)
    assert set(found) == {"error", "hint"}
    assert all(isinstance(value, str) and value for value in found.values())
