import json
import random
from pathlib import Path

import pytest

from ferryman.core.errors import ImageError, RegistryError
from ferryman.oci.blobs import Blobs
from ferryman.oci.descriptor import DOCKER_MANIFEST, Descriptor
from ferryman.oci.image import read_image, write_artifact
from ferryman.oci.layout import Layout
from ferryman.oci.reference import Reference
from ferryman.oci.registry import Registry, Retry
from tests.oci.making import AMD64, ARM64, make_image, make_index, run
from tests.ports import free_port

pytestmark = pytest.mark.tool("docker-registry")


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "mine")


def test_an_image_comes_back_as_it_was_pushed(registry_host: str, tmp_path: Path, blobs: Blobs) -> None:
    reference = Reference.parse(f"{registry_host}/back/image:1")
    index = make_index(blobs)
    with Registry.of(reference) as registry:
        assert registry.push(blobs, index, reference).kept_bytes == 0
        again = registry.push(blobs, index, reference)
        assert again.sent_bytes == 0 and again.kept_bytes > 0
        assert registry.missing(blobs, index, reference) == []
        assert registry.resolve(reference).digest == index.digest
        assert registry.tags("back/image") == ["1"]
        everything, one = Blobs(tmp_path / "all"), Blobs(tmp_path / "one")
        assert registry.pull(reference, everything).digest == index.digest
        assert read_image(everything, index, ARM64).platform == ARM64
        manifest = registry.pull(reference, one, platform=AMD64)
        assert read_image(one, manifest).platform == AMD64 and not one.has(index.digest)
        with pytest.raises(ImageError, match="linux/amd64, linux/arm64"):
            registry.pull(reference, one, platform=AMD64.parse("linux/riscv64"))
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["blobs"]


def test_a_blob_of_another_repository_is_mounted_and_progress_counts_it(registry_host: str, blobs: Blobs) -> None:
    image = make_image(blobs, random.Random(1).randbytes(3_000_000))
    first, other = (Reference.parse(f"{registry_host}/mount/{name}:1") for name in "ab")
    said: list[tuple[int, int]] = []
    with Registry.of(first) as registry:
        registry.push(blobs, image, first)
        pushed = registry.push(
            blobs, image, other, mounts=["mount/none", "mount/a"],
            progress=lambda stage, *, done=0, total=0, note="": said.append((done, total)),
        )  # fmt: skip
    assert pushed.sent_bytes == 0
    assert said[-1][0] == round(pushed.kept_bytes / 1e6)


@pytest.mark.tool("skopeo", "oras", "podman")
def test_skopeo_oras_and_podman_pull_what_we_push_and_we_what_they_push(
    registry_host: str, tmp_path: Path, blobs: Blobs, podman: tuple[str, ...]
) -> None:
    reference = Reference.parse(f"{registry_host}/readers/image:1")
    index = make_index(blobs)
    with Registry.of(reference) as registry:
        registry.push(blobs, index, reference)
        run("skopeo", "copy", "--all", "--src-tls-verify=false", f"docker://{reference}", f"oci:{tmp_path}/skopeo:1")
        assert Layout.open(tmp_path / "skopeo").find("1").digest == index.digest
        run("oras", "cp", "--from-plain-http", str(reference), "--to-oci-layout", f"{tmp_path}/oras:1")
        assert Layout.open(tmp_path / "oras").find("1").digest == index.digest
        run(*podman, "pull", "-q", "--tls-verify=false", str(reference))
        assert run(*podman, "image", "inspect", "-f", "{{.User}}", str(reference)).strip() == "65532:65532"
        theirs = f"{registry_host}/readers/docker:2"
        run(*podman, "push", "-q", "--tls-verify=false", "--format", "v2s2", str(reference), f"docker://{theirs}")
        pulled = registry.pull(Reference.parse(theirs), blobs)
        assert pulled.media_type == DOCKER_MANIFEST and read_image(blobs, pulled).platform == AMD64


@pytest.mark.tool("oras")
def test_what_is_said_about_an_image_is_found_by_us_and_by_oras(
    registry_host: str, blobs: Blobs, tmp_path: Path
) -> None:
    reference = Reference.parse(f"{registry_host}/said/image:1")
    image = make_image(blobs)
    note = Descriptor("text/plain", *blobs.add_bytes(b"good"))
    ours = write_artifact(blobs, "application/vnd.tests.note", layers=[note], subject=image, annotations={"a": "b"})
    with Registry.of(reference) as registry:
        registry.push(blobs, image, reference)
        assert registry.referrers(reference) == []
        for _ in range(2):
            registry.push(blobs, ours, reference.pinned(ours.digest))
        (tmp_path / "note.txt").write_text("theirs")
        named = str(reference.pinned(image.digest))
        run("oras", "attach", "--plain-http", "--artifact-type", "application/vnd.tests.theirs", named, "note.txt",
            folder=tmp_path)  # fmt: skip
        found = registry.referrers(reference.pinned(image.digest))
        assert {one.artifact_type for one in found} == {"application/vnd.tests.note", "application/vnd.tests.theirs"}
        (mine,) = registry.referrers(reference, "application/vnd.tests.note")
        assert (mine.digest, mine.annotations) == (ours.digest, {"a": "b"})
    listed = json.loads(run("oras", "discover", "--plain-http", "--format", "json", named))
    assert ours.digest in {one["digest"] for one in listed["manifests"]}


def test_what_is_not_there_is_said(registry_host: str, blobs: Blobs) -> None:
    with Registry(registry_host) as registry:
        with pytest.raises(RegistryError, match=r"nobody/none:1: .* doesn't have it") as refused:
            registry.pull(Reference.parse(f"{registry_host}/nobody/none:1"), blobs)
        assert "name and the tag" in refused.value.hint
        with pytest.raises(RegistryError, match="doesn't have it"):
            registry.tags("nobody/none")
        image = make_image(blobs)
        blobs.path(image.digest).write_bytes(b"{}")
        with pytest.raises(ImageError, match="has 2 bytes"):
            registry.push(blobs, image, Reference.parse(f"{registry_host}/nobody/none:1"))


def test_an_altered_layer_is_not_pushed(registry_host: str, blobs: Blobs) -> None:
    image = make_image(blobs, b"sound")
    layer = blobs.path(read_image(blobs, image).layers[0].digest)
    payload = layer.read_bytes()
    layer.write_bytes(payload[:-1] + bytes([payload[-1] ^ 1]))
    reference = Reference.parse(f"{registry_host}/altered/image:1")
    with Registry.of(reference) as registry, pytest.raises(ImageError, match=f"{layer.name} was changed"):
        registry.push(blobs, image, reference)
    with Registry.of(reference) as registry, pytest.raises(RegistryError, match="doesn't have it"):
        registry.resolve(reference)


def test_a_host_that_is_not_there_is_said(blobs: Blobs) -> None:
    retry = Retry(attempts=2, first_s=0.01)
    closed = f"127.0.0.1:{free_port()}"
    with Registry(closed, retry=retry) as registry, pytest.raises(RegistryError, match="nothing listens at"):
        registry.resolve(Reference.parse(f"{closed}/a"))
    unknown = "no-such-host.invalid"
    with Registry(unknown, retry=retry) as registry, pytest.raises(RegistryError, match=f"no host is called {unknown}"):
        registry.resolve(Reference.parse(f"{unknown}/a"))
