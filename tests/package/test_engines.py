"""podman and docker load the image and run it as a cluster would: nobody's user, nothing writable, no rights."""

import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ferryman import api
from ferryman.core.bundle import Bundle
from ferryman.core.task import bind_task
from ferryman.package.run import package_bundle
from ferryman.package.settings import Packaged, PackageSettings
from tests.bundle.making import bundle_colour
from tests.oci.registries import docker_registry
from tests.package.conftest import TAG
from tests.package.engines import PODMAN, docker_daemon, remove, wait_until_ready
from tests.ports import free_port

DOCKERED = TAG.replace(":1", ":docker")


@pytest.fixture(scope="module")
def loaded(layout: Path) -> Iterator[str]:
    subprocess.run(
        ["skopeo", "copy", "-q", f"oci:{layout}:{TAG}", f"containers-storage:{TAG}"], check=True, timeout=120
    )
    yield TAG
    remove(PODMAN, [TAG])


@pytest.fixture(scope="module")
def archive(bundle: Bundle, cache: Path, packaged: Packaged, tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert packaged.digest
    file = tmp_path_factory.mktemp("archive") / "colour.tar"
    package_bundle(bundle, PackageSettings(tag=DOCKERED, output=file), cache=cache)
    return file


def answers_as_verified(bundle: Bundle, url: str) -> bool:
    task = bind_task(bundle.deployment.task, bundle.artifact.signature)
    answers = api.infer(url, [golden.item for golden in bundle.golden], model=bundle.manifest.name)
    agreement = task.agreement([golden.answer for golden in bundle.golden], answers)
    return not agreement.beyond(bundle.tolerance)


@pytest.mark.tool("podman", "skopeo")
def test_podman_runs_it_with_no_rights_and_it_answers_as_it_was_verified(loaded: str, bundle: Bundle) -> None:
    with PODMAN.running(loaded) as (name, url):
        assert answers_as_verified(bundle, url)
        uid = PODMAN("top", name, "huser").split()[-1]
        assert uid == "65532"
        health = PODMAN("exec", name, "/usr/local/bin/python3", "-m", "ferryman.client.health", check=False)
        assert "Error" not in health, health
        PODMAN("stop", "-t", "20", name)
        assert PODMAN("inspect", name, "--format", "{{.State.ExitCode}}") == "0"


@pytest.mark.tool("podman", "skopeo")
def test_every_package_in_it_can_be_imported(loaded: str) -> None:
    code = """
import numpy.random, numpy.fft, numpy.linalg, numpy.ma, numpy.testing, numpy.polynomial, ssl, sysconfig, unittest.mock
import onnxruntime, pydantic, uvloop, httptools, orjson, simdjson, hpack, wsproto, google.protobuf, PIL.Image
import asyncio, ctypes, decimal, hashlib, json, lzma, bz2, multiprocessing.shared_memory
from importlib.metadata import distributions
sysconfig.get_config_vars()
print("missing", [str(f) for d in distributions() for f in d.files or () if not f.locate().exists()])
"""
    bare = ("run", "--rm", "--pull", "never", "--network", "none", "--entrypoint", "/usr/local/bin/python3")
    said = PODMAN(*bare, loaded, "-c", code)
    assert "missing []" in said.splitlines()


@pytest.mark.tool("docker", "dockerd")
def test_docker_loads_the_archive_runs_it_and_finds_it_healthy(
    archive: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with docker_daemon(tmp_path_factory.mktemp("docker")) as docker:
        assert DOCKERED in docker("load", "-i", str(archive))
        port = free_port()
        hard = ("--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges", "--network", "host")
        docker("run", "-d", "--name", "colour", *hard, "-e", f"PORT={port}", DOCKERED)
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", lambda: docker("logs", "colour"))
            assert answers_as_verified(bundle, f"http://127.0.0.1:{port}")
            deadline = time.monotonic() + 60
            while (state := docker("inspect", "colour", "--format", "{{.State.Health.Status}}")) == "starting":
                assert time.monotonic() < deadline
                time.sleep(0.2)  # docker asks every 10 seconds
            assert state == "healthy", docker("inspect", "colour", "--format", "{{json .State.Health}}")
            docker("stop", "-t", "20", "colour")
            assert docker("inspect", "colour", "--format", "{{.State.ExitCode}}") == "0"
        finally:
            docker("rm", "-f", "colour", check=False)


@pytest.mark.tool("docker-registry")
def test_a_push_of_a_new_model_sends_its_own_layer_alone(
    bundle: Bundle, cache: Path, packaged: Packaged, tmp_path: Path
) -> None:
    assert packaged.digest
    (tmp_path / "registry").mkdir()
    with docker_registry(tmp_path / "registry") as host:
        first = package_bundle(bundle, PackageSettings(tag=f"{host}/colour:1", push=True), cache=cache)
        before = stored_in(tmp_path)
        other = replace(bundle_colour(tmp_path / "other"), versions={})
        (other.path / "signature").write_bytes(b"what makes it another bundle")
        second = package_bundle(other, PackageSettings(tag=f"{host}/colour:2", push=True), cache=cache)
        sent = {digest: size for digest, size in stored_in(tmp_path).items() if digest not in before}
    assert first.pushed
    assert first.output is None
    assert first.digest in before
    assert second.digest in sent
    assert second.images[0].parts[-1].digest in sent
    assert len(sent) == 3, "the bundle's layer, the config and the manifest"
    assert sum(sent.values()) < 20_000


def stored_in(folder: Path) -> dict[str, int]:
    """Give the digests that a registry keeps, with their bytes."""
    found = (folder / "registry").glob("data/docker/registry/v2/blobs/sha256/*/*/data")
    return {f"sha256:{path.parent.name}": path.stat().st_size for path in found}
