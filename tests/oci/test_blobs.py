import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ferryman.core.errors import ImageError
from ferryman.oci.blobs import Blobs
from tests.oci.registries import wait_for


def test_a_blob_is_found_by_its_digest_and_checked_when_it_is_read(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    digest, size = blobs.add_json({"b": 1, "a": [1.5, None]})
    assert blobs.read(digest) == b'{"a":[1.5,null],"b":1}' and size == 22
    blobs.check(digest, size)
    with pytest.raises(ImageError, match="has 22 bytes, not 23"):
        blobs.check(digest, 23)
    blobs.path(digest).write_bytes(b'{"a":[1.5,null],"b":2}')
    for read in (blobs.read, blobs.check, blobs.read_json):
        with pytest.raises(ImageError, match="was changed"):
            read(digest)
    with pytest.raises(ImageError, match="is missing"):
        blobs.read("sha256:" + "0" * 64)


def test_a_file_that_is_not_what_was_said_is_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one")
    blobs = Blobs(tmp_path / "blobs")
    digest, _ = blobs.add_file(file)
    file.write_bytes(b"two, longer")
    with pytest.raises(ImageError, match="has the digest"):
        blobs.add_file(file, digest)
    assert blobs.read(digest) == b"one"


def test_a_blob_larger_than_a_manifest_may_be_is_not_read_into_memory(tmp_path: Path) -> None:
    digest, _ = Blobs(tmp_path).add_bytes(b"x" * 1000)
    with pytest.raises(ImageError, match="more than 100 bytes"):
        Blobs(tmp_path).read(digest, limit_bytes=100)


def test_a_lent_file_is_a_blob_where_it_lies(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"weights")
    blobs = Blobs(tmp_path / "blobs")
    digest = Blobs.digest_of(b"weights")
    blobs.lend(file, digest)
    assert blobs.has(digest) and blobs.read(digest) == b"weights" and not (tmp_path / "blobs").exists()
    blobs.remove(digest)
    assert file.exists() and not blobs.has(digest)


def test_what_a_killed_process_left_is_cleared_by_the_next(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from ferryman.oci.blobs import Blobs\n"
        "with Blobs(Path(sys.argv[1])).writing() as (stream, keep):\n"
        "    stream.write(b'half'); stream.flush(); print('now', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=10)
    process.stdout.close()
    wait_for(lambda: len([*tmp_path.iterdir()]) == 1)
    Blobs(tmp_path).add_bytes(b"whole")
    assert [one.name for one in tmp_path.iterdir()] == ["blobs"]
