"""Real containers: one that keeps every promise, and for each check one that breaks it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from ferryman.container.engine import Engine, EngineFailed, find_engine
from ferryman.container.outcome import Outcome
from ferryman.container.report import as_json, as_junit
from ferryman.container.report_html import render_html
from ferryman.container.settings import ImageSettings
from ferryman.container.suite import CHECKS, Examined, examine_image
from ferryman.core.errors import UserError
from tests.bundle.making import bundle_affine
from tests.cli.running import ferryman
from tests.container.making import Images, built, podman

pytestmark = pytest.mark.tool("podman")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    with built(tmp_path_factory.mktemp("image"), f"ferryman-test-{os.getpid()}") as made:
        yield made


@pytest.fixture(scope="module")
def affine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_affine(tmp_path_factory.mktemp("bundle") / "affine").path


def examine(image: str, *only: str, bundle: Path | None = None, **settings: Any) -> dict[str, Outcome]:
    given = ImageSettings(engine="podman", bundle=bundle, model="affine", only=only, **settings)
    return {one.id: one for one in examine_image(image, given).outcomes}


@pytest.fixture(scope="module")
def whole(images: Images, affine: Path) -> Examined:
    """Give all that is found of a good image of others, with every promise made."""
    settings = ImageSettings(
        engine="podman", bundle=affine, max_start_s=20, max_image_mb=60, max_rss_mb=200, p99_ms=2000, at_rps=50,
        memory_mb=300, cpus=1,
    )  # fmt: skip
    return examine_image(images.good, settings)


def test_a_good_image_of_others_keeps_every_promise(whole: Examined) -> None:
    found = {one.id: one for one in whole.outcomes}
    assert list(found) == [check.id for check in CHECKS]
    assert {name: one.message for name, one in found.items() if one.verdict == "failed"} == {}
    # The bundle is given, not in the image; all else was tried.
    assert {name for name, one in found.items() if one.verdict != "passed"} == {"bundle"}
    assert whole.holds
    assert found["golden"].figures["samples"] == 1
    assert found["drain"].figures["lost"] == 0
    assert found["drain"].figures["exit_code"] == 0
    assert found["user"].figures["uid"] == 65532
    sent = found["latency"].figures
    assert sent["sent"] == sent["answered"]
    assert isinstance(sent["sent"], int) and sent["sent"] > 50


def test_the_report_is_json_junit_and_a_page_without_script(whole: Examined) -> None:
    told = as_json(whole)
    assert json.loads(json.dumps(told))["holds"] is True
    assert (told["passed"], told["not_checked"]) == (len(CHECKS) - 1, 1)
    suites = ElementTree.fromstring(as_junit(whole))
    suite = suites.find("testsuite")
    assert suite is not None
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == [check.id for check in CHECKS]
    assert suite.attrib.items() >= {"tests": str(len(CHECKS)), "failures": "0", "errors": "0", "skipped": "1"}.items()
    assert [case.get("name") for case in cases if case.find("skipped") is not None] == ["bundle"]
    page = render_html(whole)
    assert "<script" not in page
    assert all(f"<code>{check.id}</code>" in page for check in CHECKS)


@pytest.mark.parametrize(
    ("fault", "check", "words", "settings"),
    [
        ("wrong", "golden", "is beyond", {}),
        ("broken", "conformance", "has 3 values; its shape says [1]", {}),
        ("slow", "latency", "over 100 ms", {"p99_ms": 100.0, "at_rps": 20.0}),
        ("late", "start", "over 0.9 s", {"max_start_s": 0.9}),
        ("dies", "bad-input", "after malformed JSON: the container has ended: exit code 9", {}),
        ("careless", "bad-input", "malformed JSON: 500, not 4xx", {}),
        ("greedy", "overload", "SIGKILL", {"memory_mb": 96}),
        ("deaf", "drain", "1.5 s after SIGTERM it still runs", {"grace_s": 1.5}),
        ("drops", "drain", " lost; 0 failed", {}),
    ],
)
def test_an_image_with_a_fault_fails_the_check_of_it(
    images: Images, affine: Path, fault: str, check: str, words: str, settings: dict[str, Any]
) -> None:
    found = examine(images.good, check, bundle=affine, args=("--fault", fault), **settings)
    assert found[check].verdict == "failed", found[check]
    assert words in found[check].message
    assert found[check].hint


def test_what_writes_to_its_root_is_told_the_file_and_examined_all_the_same(images: Images, affine: Path) -> None:
    found = examine(images.good, "read-only", "golden", bundle=affine, args=("--fault", "writes"))
    assert found["read-only"].verdict == "failed"
    assert "Read-only file system" in found["read-only"].message
    assert found["read-only"].hint == "it writes to /tmp/cache"
    assert found["golden"].verdict == "passed"


def test_an_image_that_answers_otherwise_after_each_start_is_found_without_a_bundle(images: Images) -> None:
    found = examine(images.good, "again", "golden", args=("--fault", "drifts"))
    assert found["again"].verdict == "failed"
    assert found["golden"].verdict == "not checked"
    assert "there is no bundle in the image" in found["golden"].message


def test_an_image_that_is_never_ready_leaves_the_rest_not_checked(images: Images) -> None:
    found = examine(images.good, "start", "user", "drain", "memory", args=("--fault", "mute"))
    assert found["start"].verdict == "failed"
    assert "it ended: exit code 1; its last words: no licence found" in found["start"].message
    assert {found[name].verdict for name in ("user", "drain", "memory")} == {"not checked"}


def test_a_bad_image_is_told_each_fault_that_lies_in_it(images: Images) -> None:
    static = ("size", "labels", "setuid", "secrets", "shell", "user", "health")
    found = examine(images.bad, *static, max_image_mb=10)
    assert {name: one.verdict for name, one in found.items()} == {
        "size": "failed", "labels": "told", "setuid": "failed", "secrets": "failed", "shell": "told",
        "user": "failed", "health": "failed",
    }  # fmt: skip
    assert "over 10 MB" in found["size"].message
    assert "/large 3 MB" in found["size"].hint
    assert "/bin/sh" in found["setuid"].message
    assert "$DATABASE_PASSWORD" in found["secrets"].message
    assert "/srv/server.key: a private key" in found["secrets"].message
    assert "hunter2" not in str(found["secrets"])
    assert "TOKEN_FILE" not in found["secrets"].message
    assert "runs as root" in found["user"].message
    assert "unhealthy" in found["health"].message


def test_a_foreign_image_without_bundle_or_promises_passes_nothing_in_silence(images: Images) -> None:
    found = examine(images.good, "bundle", "size", "start", "golden", "latency", "memory")
    assert {one.verdict for one in found.values()} == {"not checked"}
    assert all("promised" in found[name].message for name in ("size", "start", "latency", "memory"))


def taken_in() -> set[str]:
    """Give the names of images that runs, this one or others, took out of archives."""
    return {
        name for name in podman("images", "--format", "{{.Repository}}:{{.Tag}}").split() if "ferryman-verify" in name
    }


def test_the_command_takes_an_archive_and_leaves_nothing_in_the_engine(images: Images, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    podman("save", "-q", "-o", str(archive), images.good)
    before = taken_in()
    answer = ferryman(
        "verify", f"docker-archive:{archive}", "--engine", "podman", "--model", "affine", "--only", "start",
        "--only", "labels", "--max-start-s", "20", "--junit", "out.xml", "--html", "out.html", folder=tmp_path,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert "✓ the image keeps its promises as far as checked; 2 checks hold, 0 not checked" in answer.stdout
    assert ElementTree.parse(tmp_path / "out.xml").getroot().tag == "testsuites"
    assert "<h1>docker-archive:" in (tmp_path / "out.html").read_text()
    assert taken_in() == before


def test_a_broken_promise_is_exit_code_3(images: Images, tmp_path: Path) -> None:
    answer = ferryman("verify", images.bad, "--engine", "podman", "--only", "setuid", "--json", folder=tmp_path)
    assert answer.returncode == 3
    assert json.loads(answer.stdout)["checks"][0]["verdict"] == "failed"


def containers() -> list[str]:
    return podman("ps", "-a", "--filter", "label=ferryman.verify.owner", "--format", "{{.Names}}").split()


def waiting_for_ever(image: str, tmp_path: Path) -> subprocess.Popen[bytes]:
    """Start an examination that never ends by itself, and wait for its container."""
    words = ["verify", image, "--engine", "podman", "--model", "no-such-model", "--only", "start"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ferryman", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline_s = time.monotonic() + 60
    while not any(f"-{process.pid}-" in name for name in containers()):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    return process


def test_ctrl_c_removes_the_container(images: Images, tmp_path: Path) -> None:
    process = waiting_for_ever(images.good, tmp_path)
    process.send_signal(signal.SIGINT)
    assert process.wait(90) == 130
    assert not [name for name in containers() if f"-{process.pid}-" in name]


def test_what_a_killed_run_leaves_the_next_one_removes(images: Images, tmp_path: Path) -> None:
    process = waiting_for_ever(images.good, tmp_path)
    process.kill()
    process.wait(10)
    assert [name for name in containers() if f"-{process.pid}-" in name]
    find_engine("podman").reap()
    assert not [name for name in containers() if f"-{process.pid}-" in name]


def test_an_unknown_image_and_an_engine_without_its_daemon_are_told_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UserError, match="localhost/ferryman-no-such-image:1 can't be pulled"):
        examine_image("localhost/ferryman-no-such-image:1", ImageSettings(engine="podman"))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="podman is not installed; docker is not installed"):
        find_engine()


def test_an_engine_that_fails_is_quoted() -> None:
    with pytest.raises(EngineFailed, match=r"podman inspect: .*no such"):
        Engine("podman").json("inspect", "ferryman-no-such-container")


@pytest.fixture(scope="module")
def docker() -> Iterator[str]:
    """Run a docker daemon on a bridge of its own for these tests; gives its address."""
    folder = Path(tempfile.mkdtemp(prefix="fd-", dir="/tmp"))  # its mounts outlive pytest's own folders
    address, bridge = f"unix://{folder}/docker.sock", f"fd{os.getpid()}"
    words: list[str | Path] = [
        "dockerd", "--data-root", folder / "data", "--exec-root", folder / "exec", "--pidfile", folder / "pid",
        "-H", address, "--default-ulimit", "nofile=16384:16384", "--bridge", bridge, "--iptables=false",
        "--ip6tables=false",
    ]  # fmt: skip
    subprocess.run(["ip", "link", "add", bridge, "type", "bridge"], check=True)
    subprocess.run(["ip", "addr", "add", f"172.30.{os.getpid() % 250}.1/24", "dev", bridge], check=True)
    subprocess.run(["ip", "link", "set", bridge, "up"], check=True)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
    try:
        deadline_s = time.monotonic() + 60
        while subprocess.run(["docker", "-H", address, "version"], capture_output=True, check=False).returncode:
            assert process.poll() is None and time.monotonic() < deadline_s, (folder / "log").read_text()[-2000:]
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(30)
        subprocess.run(["ip", "link", "delete", bridge], check=False)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.tool("dockerd", "docker")
def test_docker_does_the_same(
    images: Images, affine: Path, docker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "image.tar"
    podman("save", "-q", "-o", str(archive), images.good)
    monkeypatch.setenv("DOCKER_HOST", docker)
    only = ("labels", "start", "read-only", "privileges", "user", "health", "golden", "overload", "memory", "drain")
    settings = ImageSettings(engine="docker", bundle=affine, max_start_s=20, max_rss_mb=200, only=only)
    found = examine_image(f"docker-archive:{archive}", settings)
    assert {one.id: one.message for one in found.outcomes if one.verdict != "passed"} == {}
    assert found.engine.startswith("docker ")
    engine = find_engine("docker")
    assert engine.call("ps", "-a", "-q") == engine.call("images", "-a", "-q") == ""
