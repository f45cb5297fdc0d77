import io
import tarfile
from pathlib import Path

import pytest

from ferryman.core.errors import ImageError
from ferryman.oci.archive import read_archive, write_archive
from ferryman.oci.image import read_image
from ferryman.oci.layout import Layout
from tests.oci.making import AMD64, ARM64, make_image, make_index, run


def test_equal_images_give_equal_archives(tmp_path: Path) -> None:
    one, other = Layout.create(tmp_path / "one"), Layout.create(tmp_path / "other")
    first = write_archive(one.blobs, make_image(one.blobs), tmp_path / "1.tar", name="r.example/a:1")
    second = write_archive(other.blobs, make_image(other.blobs), tmp_path / "2.tar", name="r.example/a:1")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.tool("skopeo", "podman")
def test_podman_and_skopeo_load_an_archive_as_both_kinds(tmp_path: Path, podman: tuple[str, ...]) -> None:
    layout = Layout.create(tmp_path / "layout")
    file = write_archive(layout.blobs, make_image(layout.blobs), tmp_path / "a.tar", name="localhost/ferry-archive:1")
    for kind in ("docker-archive", "oci-archive"):
        run("skopeo", "copy", f"{kind}:{file}", f"oci:{tmp_path}/{kind}:1")
        theirs = Layout.open(tmp_path / kind)
        assert read_image(theirs.blobs, theirs.find("1")).config.user == "65532:65532"
    assert "localhost/ferry-archive:1" in run(*podman, "load", "-q", "-i", file)
    run(*podman, "save", "--format", "oci-archive", "-o", tmp_path / "p.tar", "localhost/ferry-archive:1")
    theirs = read_archive(tmp_path / "p.tar", tmp_path / "back")
    assert read_image(theirs.blobs, theirs.find()).config.env["A"] == "b=c"


def test_an_archive_of_all_platforms_comes_back(tmp_path: Path) -> None:
    layout = Layout.create(tmp_path / "layout")
    index = make_index(layout.blobs)
    file = write_archive(layout.blobs, index, tmp_path / "a.tar", name="a:1", platform=AMD64)
    back = read_archive(file, tmp_path / "back")
    assert back.find("a:1").digest == index.digest
    assert read_image(back.blobs, index, ARM64).platform == ARM64


def test_a_changed_or_cut_archive_is_refused(tmp_path: Path) -> None:
    layout = Layout.create(tmp_path / "layout")
    whole = write_archive(layout.blobs, make_image(layout.blobs), tmp_path / "a.tar").read_bytes()
    for length in (0, 100, 700, len(whole) // 3, len(whole) // 2):
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        with pytest.raises(ImageError):
            read_archive(tmp_path / "cut.tar", tmp_path / f"cut-{length}")
    at = whole.index(b'"architecture"')
    (tmp_path / "changed.tar").write_bytes(whole[:at] + b"'" + whole[at + 1 :])
    with pytest.raises(ImageError, match="was changed"):
        read_archive(tmp_path / "changed.tar", tmp_path / "changed")


def test_what_a_tar_smuggles_in_is_never_written(tmp_path: Path) -> None:
    layout = Layout.create(tmp_path / "layout")
    file = write_archive(layout.blobs, make_image(layout.blobs), tmp_path / "a.tar")
    blob = "blobs/sha256/" + "0" * 64
    with tarfile.open(file, "a") as tar:
        for name in ("../escaped", "/tmp/ferry-escaped", "blobs/sha256/../../../escaped", "blobs/sha256/readme"):
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
        for kind, link in ((tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "../../x"), (tarfile.CHRTYPE, "")):
            member = tarfile.TarInfo(blob)
            member.type, member.linkname = kind, link
            tar.addfile(member)
    before = {path for path in tmp_path.rglob("*") if (tmp_path / "back") not in path.parents}
    back = read_archive(file, tmp_path / "back")
    assert {path for path in tmp_path.rglob("*") if (tmp_path / "back") not in path.parents} - {back.folder} == before
    assert not (back.folder / blob).is_symlink() and not (back.folder / blob).exists()
    assert not Path("/tmp/ferry-escaped").exists()
