"""The demo's image for another machine, run by an emulator, and the one with OpenVINO: size and golden samples."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ferryman import api
from ferryman.container.settings import BUDGETS_MB
from ferryman.core.bundle import Bundle
from ferryman.package.run import package_bundle
from ferryman.package.settings import Packaged, PackageSettings
from tests.package.conftest import DEMO
from tests.package.demo import beyond, build_demo
from tests.package.emulation import aarch64_programs
from tests.package.engines import PODMAN, remove

pytestmark = pytest.mark.slow
ARM, OPENVINO = DEMO.replace(":1", ":arm64"), DEMO.replace(":1", ":openvino")
GOLDEN = """
import json, platform
from pathlib import Path
from ferryman.bundle.read import load_bundle
from ferryman.core.plugins import runtime_for
from ferryman.core.task import bind_task, infer_items
bundle = load_bundle(Path("/bundle"))
task = bind_task(bundle.deployment.task, bundle.artifact.signature)
session = runtime_for(bundle.artifact.format, serves=True).require()().load(bundle.artifact, threads=1)
answers = [answer for golden in bundle.golden[:1] for answer in infer_items(task, session, [golden.item])]
print(json.dumps({"machine": platform.machine(), "answers": answers}))
"""


@pytest.mark.tool("podman", "skopeo", "apt-get", "qemu-aarch64-static")
def test_the_image_for_arm64_answers_as_the_one_for_amd64_was_verified(demo_image: Packaged, demo: Bundle) -> None:
    source, words = f"oci:{demo_image.output}:{DEMO}", ["--override-arch", "arm64"]
    subprocess.run(["skopeo", "copy", "-q", *words, source, f"containers-storage:{ARM}"], check=True, timeout=120)
    hard = ("--read-only", "--read-only-tmpfs=false", "--cap-drop", "all", "--network", "none")
    asked = ("run", "--rm", "--pull", "never", "--arch", "arm64", *hard, "--entrypoint", "/usr/local/bin/python3")
    try:
        with aarch64_programs():
            said = PODMAN(*asked, ARM, "-c", GOLDEN, timeout=400)
    finally:
        remove(PODMAN, [ARM])
    found: dict[str, Any] = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
    assert found["machine"] == "aarch64"
    assert len(found["answers"]) == 1  # each takes this emulator many seconds
    assert beyond(replace(demo, golden=demo.golden[:1]), found["answers"]) == {}


@pytest.fixture(scope="module")
def openvino(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return build_demo(tmp_path_factory.mktemp("openvino"), "openvino-fp32", golden=2)


@pytest.fixture(scope="module")
def openvino_image(openvino: Bundle, cache: Path) -> Packaged:
    return package_bundle(openvino, PackageSettings(tag=OPENVINO), cache=cache)


@pytest.fixture(scope="module")
def loaded_openvino(openvino_image: Packaged) -> Iterator[str]:
    source = f"oci:{openvino_image.output}:{OPENVINO}"
    subprocess.run(["skopeo", "copy", "-q", source, f"containers-storage:{OPENVINO}"], check=True, timeout=120)
    yield OPENVINO
    remove(PODMAN, [OPENVINO])


def test_an_image_with_openvino_keeps_its_budget(openvino_image: Packaged, openvino: Bundle) -> None:
    (image,) = openvino_image.images
    assert openvino.manifest.format == "openvino"
    assert "openvino" in {one.name for one in image.contents}
    assert "onnxruntime" not in {one.name for one in image.contents}
    assert image.size_unpacked / 1e6 <= 240 <= BUDGETS_MB["openvino"]  # 228 in November 2026: growth shows here first


@pytest.mark.tool("podman", "skopeo")
def test_a_container_with_openvino_answers_as_it_was_verified(loaded_openvino: str, openvino: Bundle) -> None:
    with PODMAN.running(loaded_openvino) as (_, url):
        answers = api.infer(url, [golden.item for golden in openvino.golden], model=openvino.manifest.name)
    assert beyond(openvino, answers) == {}
