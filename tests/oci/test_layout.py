import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ferryman.core.errors import ImageError
from ferryman.oci.descriptor import INDEX
from ferryman.oci.image import read_image
from ferryman.oci.layout import Layout, split_place
from tests.oci.making import AMD64, ARM64, make_image, make_index, run


def test_a_name_moves_to_the_newest_and_manifests_stay_listed(tmp_path: Path) -> None:
    layout = Layout.create(tmp_path / "layout")
    first, second = make_image(layout.blobs, b"1"), make_image(layout.blobs, b"2")
    layout.tag(first, "latest")
    layout.tag(first, "1")
    layout.tag(second, "latest")
    assert Layout.create(tmp_path / "layout").find("latest").digest == second.digest
    assert layout.find("1").digest == layout.find(first.digest).digest == first.digest
    assert len(layout.manifests()) == 2
    with pytest.raises(ImageError, match="nothing called '3'") as refused:
        layout.find("3")
    assert "1, latest" in refused.value.hint
    with pytest.raises(ImageError, match="2 images") as unnamed:
        layout.find()
    assert unnamed.value.hint == f"write {layout.folder}:NAME, one of 1, latest"


def test_processes_that_tag_at_once_forget_no_name(tmp_path: Path) -> None:
    layout = Layout.create(tmp_path)
    layout.tag(make_image(layout.blobs), "0")
    code = (
        "import sys; from pathlib import Path; from ferryman.oci.layout import Layout\n"
        "layout = Layout.open(Path(sys.argv[1]))\n"
        "for n in range(10): layout.tag(layout.find('0'), f'{sys.argv[2]}-{n}')"
    )
    working = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name]) for name in "ab"]
    assert [process.wait(timeout=60) for process in working] == [0, 0]
    assert len(layout.manifests()) == 21


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ImageError, match="is no OCI layout"):
        Layout.create(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("oci-layout", "{}", "version"),
        ("oci-layout", "[", "not valid JSON"),
        ("index.json", "[]", "lists no manifests"),
        ("index.json", '{"manifests": [{"digest": "sha256:../x", "size": 1, "mediaType": "a/b"}]}', "not a sha256"),
        ("index.json", '{"manifests": "x"}', "lists no manifests"),
        ("index.json", "[" * 100_000, "not valid JSON"),
        ("index.json", " " * (4 * 1024 * 1024 + 1), "more than"),
        ("index.json", None, "is missing"),
    ],
)
def test_a_damaged_layout_is_refused(tmp_path: Path, name: str, content: str | None, says: str) -> None:
    Layout.create(tmp_path)
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_text(content)
    with pytest.raises(ImageError, match=says):
        Layout.open(tmp_path)


def test_the_image_of_a_platform_is_chosen(tmp_path: Path) -> None:
    layout = Layout.create(tmp_path)
    index = make_index(layout.blobs)
    image = read_image(layout.blobs, index, ARM64)
    assert (image.platform, image.config.user, image.config.env) == (ARM64, "65532:65532", {"A": "b=c"})
    assert image.config.entrypoint == ("/app/hello",) and image.config.labels == {"who": "tests"}
    with pytest.raises(ImageError, match="several platforms: linux/amd64, linux/arm64"):
        read_image(layout.blobs, index)


def test_a_manifest_that_two_tools_would_read_as_two_things_is_refused(tmp_path: Path) -> None:
    blobs = Layout.create(tmp_path).blobs
    image = make_image(blobs)
    raw: dict[str, Any] = blobs.read_json(image.digest)
    changes: list[dict[str, Any]] = [
        {"manifests": []}, {"mediaType": INDEX}, {"schemaVersion": 1}, {"layers": {}}, {"layers": []},
    ]  # fmt: skip
    for change in changes:
        digest, size = blobs.add_bytes(json.dumps({**raw, **change}).encode())
        broken = type(image)(image.media_type, digest, size)
        with pytest.raises(ImageError):
            read_image(blobs, broken)
    with pytest.raises(ImageError, match="not 7"):
        read_image(blobs, type(image)(image.media_type, image.digest, 7))


@pytest.mark.tool("skopeo", "podman", "oras")
def test_layouts_of_skopeo_podman_and_oras_are_read_and_ours_by_them(tmp_path: Path, podman: tuple[str, ...]) -> None:
    layout = Layout.create(tmp_path / "ours")
    layout.tag(make_image(layout.blobs), "1")
    layout.tag(make_index(layout.blobs), "all")
    run("skopeo", "copy", f"oci:{tmp_path}/ours:1", f"oci:{tmp_path}/skopeo:2")
    run("oras", "cp", "--from-oci-layout", f"{tmp_path}/ours:1", "--to-oci-layout", f"{tmp_path}/oras:3")
    run("skopeo", "copy", "--all", f"oci:{tmp_path}/ours:all", f"oci:{tmp_path}/skopeo-all:4")
    loaded = run(*podman, "pull", "-q", "oci:ours:1", folder=tmp_path).split()[-1]
    run(*podman, "push", "-q", loaded, "oci:podman:5", folder=tmp_path)
    for name, tag in (("skopeo", "2"), ("oras", "3"), ("podman", "5")):
        theirs = Layout.open(tmp_path / name)
        image = read_image(theirs.blobs, theirs.find(tag), AMD64)
        assert (image.platform, image.config.user) == (AMD64, "65532:65532"), name
        assert image.diff_ids == read_image(layout.blobs, layout.find("1")).diff_ids
    both = Layout.open(tmp_path / "skopeo-all")
    assert read_image(both.blobs, both.find("4"), ARM64).platform == ARM64


def test_a_name_with_colons_is_told_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "at:8").mkdir()
    for folder in (tmp_path / "plain", tmp_path / "at:8"):
        for name in ("", "1", "localhost/street:1", "localhost:5000/street:1", "sha256:" + "0" * 64):
            assert split_place(f"{folder}:{name}" if name else str(folder)) == (folder, name)
    assert split_place("nowhere:localhost/street:1") == (Path("nowhere"), "localhost/street:1")
