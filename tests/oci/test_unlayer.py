import gzip
import io
import tarfile
from pathlib import Path

import pytest

from ferryman.core.errors import ImageError
from ferryman.oci.blobs import Blobs
from ferryman.oci.descriptor import LAYER, LAYER_GZIP, Descriptor
from ferryman.oci.layer import Entry, write_layer
from ferryman.oci.unlayer import list_layer, measure_layer, read_layer

LIMIT = 1_000_000


def tar_of(*members: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    return buffer.getvalue()


def named(name: str, size: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    return member


def keep(blobs: Blobs, payload: bytes, media_type: str = LAYER) -> Descriptor:
    return Descriptor(media_type, *blobs.add_bytes(payload))


def test_a_layer_is_measured_and_listed_as_it_was_written(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    layer = write_layer([Entry("a/b", content=b"x" * 5000), Entry("c", kind="link", link="/etc")], blobs)
    assert measure_layer(blobs, layer.descriptor, layer.diff_id, limit_bytes=LIMIT) == layer
    listed = {one.name: one.size for one in list_layer(blobs, layer.descriptor, limit_bytes=LIMIT)}
    assert listed == {"a": 0, "a/b": 5000, "c": 0}


def test_a_layer_gives_the_content_of_plain_files_and_of_nothing_else(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    layer = write_layer(
        [Entry("a/b", content=b"one"), Entry("c", kind="link", link="a/b"), Entry("d", content=b"")], blobs
    )
    read = {
        member.name: content.read() if content else None
        for member, content in read_layer(blobs, layer.descriptor, limit_bytes=LIMIT)
    }
    assert read == {"a": None, "a/b": b"one", "c": None, "d": b""}
    with pytest.raises(ImageError, match="something else than its image's config says"):
        measure_layer(blobs, layer.descriptor, layer.descriptor.digest, limit_bytes=LIMIT)


def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    bomb = keep(blobs, gzip.compress(tar_of(named("zeros", 50_000_000))), LAYER_GZIP)
    assert bomb.size < LIMIT
    with pytest.raises(ImageError, match="unpacks to more than 1000000"):
        measure_layer(blobs, bomb, "sha256:" + "0" * 64, limit_bytes=LIMIT)
    with pytest.raises(ImageError, match="unpacks to more than 1000000"):
        list(list_layer(blobs, bomb, limit_bytes=LIMIT))


def test_a_header_that_claims_to_be_huge_takes_no_memory(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 8_000_000_000
    huge = keep(blobs, header.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    with pytest.raises(ImageError, match="header claims 8000000000 bytes"):
        list(list_layer(blobs, huge, limit_bytes=10**12))


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a/../../b"])
def test_a_name_that_leads_out_of_the_image_is_refused(tmp_path: Path, name: str) -> None:
    blobs = Blobs(tmp_path)
    with pytest.raises(ImageError, match="leads out of the image"):
        list(list_layer(blobs, keep(blobs, tar_of(named(name))), limit_bytes=LIMIT))


def test_broken_layers_are_refused(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    whole = gzip.compress(tar_of(named("a", 100_000)))
    broken = [keep(blobs, whole[:-20], LAYER_GZIP), keep(blobs, b"no gzip", LAYER_GZIP), keep(blobs, b"x" * 2000)]
    for one in broken:
        with pytest.raises(ImageError):
            list(list_layer(blobs, one, limit_bytes=LIMIT))
    with pytest.raises(ImageError, match="zstd, which is not read"):
        list(list_layer(blobs, keep(blobs, b"", LAYER + "+zstd"), limit_bytes=LIMIT))
