"""Damaged, altered and hostile bundles: each is refused, each for its own reason."""

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ferryman.bundle._arrays import decode_arrays
from ferryman.bundle.layout import decode_json, encode_json, identity_digest
from ferryman.bundle.pack import pack
from ferryman.bundle.read import load_bundle
from ferryman.bundle.unpack import unpack
from ferryman.core.artifact import files_of
from ferryman.core.bundle import Bundle, Manifest
from ferryman.core.errors import BundleError
from tests.bundle.making import bundle_affine, bundle_colour


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundle_colour(tmp_path_factory.mktemp("original") / "bundle")


@pytest.fixture
def folder(original: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original.path, tmp_path / "bundle"))


def forge(folder: Path, change: Callable[[dict[str, Any]], None], *, sign: bool = True) -> None:
    """Change the manifest and, as an attacker would, make its digest fit again."""
    file = folder / "bundle.json"
    raw = json.loads(file.read_bytes())
    change(raw)
    if sign:
        raw["digest"] = identity_digest(Manifest.model_validate(raw))
    file.write_bytes(encode_json(raw))


def test_a_flipped_bit_in_any_file_is_refused_and_the_file_is_named(folder: Path) -> None:
    for file in list(files_of(folder)):
        payload = file.read_bytes()
        for place in {0, len(payload) // 2, len(payload) - 1}:
            file.write_bytes(payload[:place] + bytes([payload[place] ^ 1]) + payload[place + 1 :])
            with pytest.raises(BundleError, match=file.name):
                load_bundle(folder)
        file.write_bytes(payload)
    load_bundle(folder)


def test_a_file_cut_short_or_missing_is_refused_and_named(folder: Path) -> None:
    for file in list(files_of(folder)):
        payload = file.read_bytes()
        file.write_bytes(payload[:-1])
        if file.name != "bundle.json":  # which is whole without its last byte, a newline
            with pytest.raises(BundleError, match=f"{file.name} was changed: it has"):
                load_bundle(folder)
        file.unlink()
        with pytest.raises(BundleError, match=file.name):
            load_bundle(folder)
        file.write_bytes(payload)
    load_bundle(folder)


def test_an_unexpected_file_is_refused_and_named(folder: Path) -> None:
    (folder / "model" / "run.py").write_text("")
    with pytest.raises(BundleError, match=r"model/run\.py does not belong"):
        load_bundle(folder)


def test_a_link_is_refused(folder: Path) -> None:
    (folder / "baseline.json").unlink()
    (folder / "baseline.json").symlink_to("/etc/passwd")
    with pytest.raises(BundleError, match=r"baseline\.json is not a plain file"):
        load_bundle(folder)


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/passwd", "model/../../evil", "a\\b", "C:evil", "a//b", "./a", "a\nb", "", "model/."]
)
def test_a_path_that_leads_outside_is_refused(folder: Path, name: str) -> None:
    entry = {"sha256": "0" * 64, "size": 1}
    forge(folder, lambda raw: raw["files"].update({name: entry}))
    with pytest.raises(BundleError, match="names a file outside"):
        load_bundle(folder)


def test_a_model_outside_of_the_bundle_is_refused(folder: Path) -> None:
    forge(folder, lambda raw: raw.update(model="../../other.onnx"))
    with pytest.raises(BundleError, match="names a file outside"):
        load_bundle(folder)


def test_a_newer_bundle_asks_for_an_upgrade(folder: Path) -> None:
    forge(folder, lambda raw: raw.update(spec_version=2, news=1), sign=False)
    with pytest.raises(BundleError, match="spec_version 2; this ferryman reads up to 1") as caught:
        load_bundle(folder)
    assert "upgrade ferryman" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: raw.update(digest="0" * 64), "its digest is not"),
        (lambda raw: raw.update(news=1), "'news'"),
        (lambda raw: raw.update(spec_version="1"), "no spec_version"),
        (lambda raw: raw.pop("files"), "'files'"),
        (lambda raw: raw["files"]["proof.json"].update(size=-1), "'files.proof.json.size'"),
    ],
)
def test_a_wrong_manifest_is_told(folder: Path, change: Any, words: str) -> None:
    forge(folder, change, sign=False)
    with pytest.raises(BundleError, match=words):
        load_bundle(folder)


def test_nothing_but_the_proof_may_be_left_out_of_the_digest(folder: Path) -> None:
    forge(folder, lambda raw: raw.update(measured=["proof.json", "model/colour.onnx"]))
    with pytest.raises(BundleError, match="out of its digest"):
        load_bundle(folder)


@pytest.mark.parametrize("part", ["proof.json", "golden/samples.json"])
def test_a_manifest_without_a_part_is_refused(folder: Path, part: str) -> None:
    (folder / part).unlink()
    forge(folder, lambda raw: raw["files"].pop(part))
    with pytest.raises(BundleError, match=f"doesn't list {part}"):
        load_bundle(folder)


@pytest.mark.parametrize("payload", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b'{"spec_version": NaN}'])
def test_invalid_json_is_told(folder: Path, payload: bytes) -> None:
    (folder / "bundle.json").write_bytes(payload)
    with pytest.raises(BundleError, match="not valid JSON"):
        load_bundle(folder)


@pytest.mark.parametrize("part", ["proof.json", "artifact.json", "baseline.json", "golden/samples.json"])
@pytest.mark.parametrize("payload", [b"[]", b'"x"', b"{}", b"{"])
def test_a_forged_part_of_another_shape_is_refused(folder: Path, part: str, payload: bytes) -> None:
    if (part, payload) == ("baseline.json", b"{}"):
        return  # an empty baseline is a baseline
    (folder / part).write_bytes(payload)
    entry = {"sha256": hashlib.sha256(payload).hexdigest(), "size": len(payload)}
    forge(folder, lambda raw: raw["files"].update({part: entry}))
    with pytest.raises(BundleError, match=Path(part).name):
        load_bundle(folder)


def test_what_is_no_bundle_at_all_is_told(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no bundle at"):
        load_bundle(tmp_path / "nothing")
    with pytest.raises(BundleError, match=r"it has no bundle\.json"):
        load_bundle(tmp_path)
    (tmp_path / "picture.ferry").write_bytes(os.urandom(5000))
    with pytest.raises(BundleError, match=r"not a whole \.ferry file"):
        load_bundle(tmp_path / "picture.ferry", unpack_into=tmp_path / "cache")


@pytest.fixture
def ferry(original: Bundle, tmp_path: Path) -> Path:
    return pack(original.path, tmp_path / "bundle.ferry")


def test_a_packed_bundle_is_the_same_bundle(ferry: Path, original: Bundle, tmp_path: Path) -> None:
    first = load_bundle(ferry, unpack_into=tmp_path / "cache")
    again = load_bundle(ferry, unpack_into=tmp_path / "cache")
    assert first.manifest == original.manifest
    assert first.path == again.path
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_damaged_folder_in_the_cache_is_unpacked_again(ferry: Path, tmp_path: Path) -> None:
    first = load_bundle(ferry, unpack_into=tmp_path / "cache")
    (first.path / "baseline.json").write_text("{}")
    assert load_bundle(ferry, unpack_into=tmp_path / "cache").baseline == first.baseline


@pytest.mark.parametrize("is_cached", [True, False], ids=["cached", "not cached"])
def test_a_truncated_ferry_file_is_refused(ferry: Path, tmp_path: Path, is_cached: bool) -> None:
    payload = ferry.read_bytes()
    if is_cached:
        load_bundle(ferry, unpack_into=tmp_path / "cache")
    with tarfile.open(ferry) as tar:
        last = tar.getmembers()[-1]
    end = last.offset_data + last.size
    for length in {0, 1, 511, 512, 1000, end // 3, end // 2, end - 1}:
        ferry.write_bytes(payload[:length])
        with pytest.raises(BundleError):
            load_bundle(ferry, unpack_into=tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("*"))) == int(is_cached), "nothing half is left"


@pytest.mark.parametrize("is_cached", [True, False], ids=["cached", "not cached"])
def test_a_flipped_bit_in_a_ferry_file_is_refused(ferry: Path, tmp_path: Path, is_cached: bool) -> None:
    payload = bytearray(ferry.read_bytes())
    if is_cached:
        load_bundle(ferry, unpack_into=tmp_path / "cache")
    with tarfile.open(ferry) as tar:
        members = tar.getmembers()
    for member in members:
        for place in (member.offset + 5, member.offset_data, member.offset_data + member.size - 1):
            payload[place] ^= 1
            ferry.write_bytes(payload)
            with pytest.raises(BundleError):
                load_bundle(ferry, unpack_into=tmp_path / "cache")
            payload[place] ^= 1


def tar_of(folder: Path, extra: list[tuple[tarfile.TarInfo, bytes]], target: Path) -> Path:
    with tarfile.open(target, "w") as tar:
        names = sorted(file.relative_to(folder).as_posix() for file in files_of(folder))
        for name in ["bundle.json", *(name for name in names if name != "bundle.json")]:
            tar.add(folder / name, name)
        for member, payload in extra:
            tar.addfile(member, io.BytesIO(payload))
    return target


def member_of(name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", size: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, link, size
    return member


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (member_of("../../evil", size=1), "is not listed"),
        (member_of("/tmp/evil", size=1), "is not listed"),
        (member_of("extra.txt", size=1), "is not listed"),
        (member_of("proof.json", size=1), "is there twice"),
        (member_of("link", tarfile.SYMTYPE, link="/etc/passwd"), "is not a plain file"),
        (member_of("hard", tarfile.LNKTYPE, link="bundle.json"), "is not a plain file"),
        (member_of("null", tarfile.CHRTYPE), "is not a plain file"),
        (member_of("pipe", tarfile.FIFOTYPE), "is not a plain file"),
        (member_of("folder", tarfile.DIRTYPE), "is not a plain file"),
    ],
)
def test_a_ferry_file_smuggles_nothing(original: Bundle, tmp_path: Path, member: tarfile.TarInfo, words: str) -> None:
    target = tar_of(original.path, [(member, b"!" * member.size)], tmp_path / "evil.ferry")
    with pytest.raises(BundleError, match=words):
        load_bundle(target, unpack_into=tmp_path / "cache")
    assert list((tmp_path / "cache").glob("*")) == []
    assert not (tmp_path / "evil").exists()


def test_a_size_that_a_ferry_file_only_claims_is_never_taken(original: Bundle, tmp_path: Path) -> None:
    target = tmp_path / "huge.ferry"
    with tarfile.open(target, "w") as tar:
        tar.add(original.path / "bundle.json", "bundle.json")
        tar.fileobj.write(member_of("proof.json", size=2**40).tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(BundleError, match=r"claims 1099511627776 bytes"):
        load_bundle(target, unpack_into=tmp_path / "cache")


def test_packing_over_what_is_no_ferry_file_is_refused(original: Bundle, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(BundleError, match=r"is not a \.ferry file"):
        pack(original.path, tmp_path / "thesis.txt")
    pack(original.path, tmp_path / "again.ferry")
    pack(original.path, tmp_path / "again.ferry")
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_a_damaged_bundle_is_not_packed(folder: Path, tmp_path: Path) -> None:
    (folder / "baseline.json").write_text("{}")
    with pytest.raises(BundleError, match=r"baseline\.json was changed"):
        pack(folder, tmp_path / "bundle.ferry")
    assert not (tmp_path / "bundle.ferry").exists()


def test_arrays_that_claim_more_than_they_hold_are_refused(tmp_path: Path) -> None:
    bundle = bundle_affine(tmp_path / "bundle")
    payload = (bundle.path / "golden" / "0000.npz").read_bytes()
    assert decode_arrays(payload, origin="x")["values"].tolist() == [[1, 2, 3]]
    for forged in (payload.replace(b"(1, 3)", b"(9**9)"), payload[:50], b"PK", payload.replace(b"<f4", b"|O8")):
        with pytest.raises(BundleError, match=r"x is not a readable \.npz"):
            decode_arrays(forged, origin="x")


def test_a_winner_that_is_none_of_the_candidates_is_refused(folder: Path) -> None:
    raw = json.loads((folder / "proof.json").read_bytes())
    payload = encode_json({**raw, "winner": "onnx-int8"})
    (folder / "proof.json").write_bytes(payload)
    entry = {"sha256": hashlib.sha256(payload).hexdigest(), "size": len(payload)}
    forge(folder, lambda manifest: manifest["files"].update({"proof.json": entry}))
    with pytest.raises(BundleError, match="the winner 'onnx-int8' is none of its candidates"):
        load_bundle(folder)


@pytest.mark.parametrize("value", ['"1e5"', '"NaN"', '"infinity"', '"1_0"', '" inf "', "1", "[1]", "{}", "null"])
def test_a_number_has_one_spelling(value: str) -> None:
    with pytest.raises(BundleError, match=r"one of nan, inf, -inf"):
        decode_json(f'{{"$float": {value}}}'.encode(), origin="baseline.json")
    assert decode_json(b'{"$float": "-inf"}', origin="baseline.json") == float("-inf")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user that nobody knows")
def test_a_user_without_a_home_unpacks_into_the_temporary_folder(ferry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    nobody = 54_321
    with ferry.open("rb") as stream:  # the way to the file is root's alone
        os.setresuid(nobody, nobody, 0)
        try:
            folder = unpack(Path(f"/proc/self/fd/{stream.fileno()}"))
        finally:
            os.setresuid(0, 0, 0)
    try:
        assert folder.parent.name == f"ferryman-{nobody}"
        assert (folder / "bundle.json").is_file()
    finally:
        shutil.rmtree(folder.parent)
