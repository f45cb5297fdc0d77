import gzip
import io
import resource
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from ferryman.core.errors import ImageError
from ferryman.oci.blobs import Blobs
from ferryman.oci.layer import Entry, write_layer


def entries(folder: Path) -> list[Entry]:
    (folder / "weights").write_bytes(b"\x00\x01" * 50_000)
    return [
        Entry("bundle/model/weights.onnx", content=folder / "weights"),
        Entry("bundle/bundle.json", content=b"{}"),
        Entry("usr/bin/tool", 0o755, b"#!"),
        Entry("usr/bin/alias", kind="link", link="tool"),
        Entry("tmp", 0o1777, kind="folder"),
        Entry("usr/" + "long" * 60 + "/ümlaut", content=b"x"),
    ]


def test_the_same_entries_give_the_same_digest_in_any_order_and_place(tmp_path: Path) -> None:
    one = write_layer(entries(tmp_path), Blobs(tmp_path / "one"))
    other = write_layer(reversed(entries(tmp_path)), Blobs(tmp_path / "other"))
    assert one == other


def test_a_layer_is_a_sorted_tar_with_nobodys_names_and_times(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    layer = write_layer(entries(tmp_path), blobs)
    raw = gzip.decompress(blobs.path(layer.descriptor.digest).read_bytes())
    assert len(raw) == layer.size_unpacked and Blobs.digest_of(raw) == layer.diff_id
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        members = tar.getmembers()
    assert [one.name for one in members] == sorted(one.name for one in members)
    assert {(one.mtime, one.uid, one.gid, one.uname, one.gname) for one in members} == {(0, 0, 0, "", "")}
    modes = {one.name: one.mode for one in members}
    assert modes["tmp"] == 0o1777 and modes["usr/bin/tool"] == 0o755
    assert modes["bundle"] == modes["bundle/model"] == 0o755  # or docker makes them for root alone


def test_a_layer_may_stay_uncompressed(tmp_path: Path) -> None:
    layer = write_layer(entries(tmp_path), Blobs(tmp_path), level=0)
    assert layer.descriptor.media_type.endswith(".tar") and layer.descriptor.digest == layer.diff_id
    assert layer.diff_id == write_layer(entries(tmp_path), Blobs(tmp_path)).diff_id


@pytest.mark.parametrize("name", ["/etc/passwd", "../out", "a/../b", "./a", "a//b", "", "a\0b", "a/"])
def test_a_name_that_leads_out_is_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match="can't hold"):
        write_layer([Entry(name, content=b"")], Blobs(tmp_path))
    assert not (tmp_path / "blobs").exists()


def test_an_entry_has_one_place_and_its_folder_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="twice"):
        write_layer([Entry("a", content=b""), Entry("a", content=b"")], Blobs(tmp_path))
    with pytest.raises(ImageError, match="'a' is a link"):
        write_layer([Entry("a", kind="link", link="/etc"), Entry("a/b", content=b"")], Blobs(tmp_path))


def test_a_file_that_is_missing_is_named_and_nothing_stays(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="nothing-here is missing"):
        write_layer([Entry("a", content=tmp_path / "nothing-here")], Blobs(tmp_path / "b"))
    assert [*(tmp_path / "b").iterdir()] == []


def test_a_full_disk_is_said_and_nothing_half_written_stays(tmp_path: Path) -> None:
    code = (
        "import os, sys, signal; from pathlib import Path; from ferryman.oci.blobs import Blobs\n"
        "from ferryman.oci.layer import Entry, write_layer; from ferryman.core.errors import ImageError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "try: write_layer([Entry('a', content=os.urandom(3_000_000))], Blobs(Path(sys.argv[1])))\n"
        "except ImageError as error: print(error)"
    )
    limit = (1_000_000, 1_000_000)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),  # as a full disk: EFBIG
    )  # fmt: skip
    assert "the disk is full" in done.stdout, done.stderr
    assert [*tmp_path.iterdir()] == []
