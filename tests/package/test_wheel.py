"""Nothing of a wheel is believed that its list doesn't prove."""

import base64
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from ferryman.core.errors import ImageError
from ferryman.package.contents import licence_of
from ferryman.package.packages import wheel_entries
from ferryman.package.wheel import Wheel, read_metadata, unpack_wheel

META = b"Metadata-Version: 2.4\nName: one\nVersion: 1.0\nLicense-Expression: MIT\n"


def make_wheel(
    folder: Path, files: Mapping[str, bytes], *, wrong: str = "", unlisted: str = "", bare: str = ""
) -> Wheel:
    files = {**files, "one-1.0.dist-info/METADATA": META, "one-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\n"}
    lines = []
    for name, content in files.items():
        digest = hashlib.sha256(b"other" if name == wrong else content).digest()
        encoded = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        listed = f"{name},," if name == bare else f"{name},sha256={encoded},{len(content)}"
        lines += [] if name == unlisted else [listed]
    path = folder / "one-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr("one-1.0.dist-info/RECORD", "\n".join([*lines, "one-1.0.dist-info/RECORD,,"]))
    return Wheel("one", "1.0", path, hashlib.sha256(path.read_bytes()).hexdigest())


def test_modules_and_data_that_belong_beside_them_are_taken_and_scripts_are_not(tmp_path: Path) -> None:
    wheel = make_wheel(
        tmp_path,
        {"one/__init__.py": b"", "one-1.0.data/purelib/two.py": b"x=1", "one-1.0.data/scripts/run": b"#!python"},
    )
    _, names = unpack_wheel(wheel, tmp_path / "out")
    assert "one/__init__.py" in names
    assert "two.py" in names
    assert not any("run" in name for name in names)


def test_a_file_with_another_digest_than_listed_is_refused_by_name(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {"one/__init__.py": b"evil"}, wrong="one/__init__.py")
    with pytest.raises(ImageError, match=r"one/__init__\.py was changed"):
        unpack_wheel(wheel, tmp_path / "out")


def test_a_file_that_is_not_listed_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {"one/extra.py": b""}, unlisted="one/extra.py")
    with pytest.raises(ImageError, match="not in its RECORD"):
        unpack_wheel(wheel, tmp_path / "out")


@pytest.mark.parametrize("bare", ["one/extra.py", "one-1.0.dist-info/METADATA"])
def test_a_file_that_is_listed_without_a_digest_is_refused(bare: str, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {"one/extra.py": b"evil"}, bare=bare)
    with pytest.raises(ImageError, match=f"its RECORD has no digest of {bare}"):
        unpack_wheel(wheel, tmp_path / "out")


def test_a_wheel_that_would_fill_the_disk_is_refused_before_it_does(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, {"one/zeros.bin": bytes(9)}).path
    payload = path.read_bytes()
    at = payload.index(b"PK\x01\x02") + 24  # the first entry's size in the archive's list of files
    path.write_bytes(payload[:at] + (0xFFFFFFF0).to_bytes(4, "little") + payload[at + 4 :])
    bombs = Wheel("one", "1.0", path, hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(ImageError, match="would unpack to 42949"):
        unpack_wheel(bombs, tmp_path / "out")
    assert not list(tmp_path.rglob("zeros.bin"))


def test_a_wheel_that_was_changed_since_it_came_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {"one/__init__.py": b""})
    with wheel.path.open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(ImageError, match="was changed"):
        unpack_wheel(wheel, tmp_path / "out")


@pytest.mark.parametrize("name", ["../evil.py", "/evil.py", "one/../../evil.py", "one-1.0.data/purelib/../../evil.py"])
def test_a_name_that_leads_out_is_refused(name: str, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {name: b""})
    with pytest.raises(ImageError):
        unpack_wheel(wheel, tmp_path / "out")
    assert not list(tmp_path.rglob("evil.py"))


def test_a_file_that_is_no_wheel_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "one-1.0-py3-none-any.whl"
    path.write_bytes(b"no zip")
    wheel = Wheel("one", "1.0", path, hashlib.sha256(b"no zip").hexdigest())
    with pytest.raises(ImageError, match="no whole wheel"):
        unpack_wheel(wheel, tmp_path / "out")
    with pytest.raises(ImageError, match="no readable wheel"):
        read_metadata(wheel)


def test_a_damaged_or_encrypted_wheel_is_refused_by_name(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, {"one/__init__.py": b"x = 1\n" * 99}).path
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    whole = path.read_bytes()
    start = whole.index(b"one/__init__.py") + len("one/__init__.py")
    damaged = whole[:start] + b"\xff" * 8 + whole[start + 8 :]
    at = whole.index(b"PK\x01\x02") + 8
    encrypted = whole[:at] + b"\x01" + whole[at + 1 :]
    for payload in (damaged, encrypted):
        path.write_bytes(payload)
        wheel = Wheel("one", "1.0", path, hashlib.sha256(payload).hexdigest())
        with pytest.raises(ImageError, match="no whole wheel"):
            unpack_wheel(wheel, tmp_path / "out")


def test_the_list_of_a_slimmed_package_is_true_to_what_is_there(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {"one/__init__.py": b"x=1", "one/tests/test_one.py": b"", "one/one.h": b""})
    entries = {
        entry.name.split("site-packages/")[1]: entry for entry in wheel_entries([wheel], tmp_path / "o", compiled=True)
    }
    record = entries["one-1.0.dist-info/RECORD"].content
    assert isinstance(record, bytes)
    listed = [line.split(",")[0] for line in record.decode().splitlines()]
    assert sorted(listed) == sorted(entries)
    assert "one/tests/test_one.py" not in entries
    assert "one/one.h" not in entries
    assert any(name.endswith(".pyc") for name in entries)


def test_a_licence_is_read_from_each_place_where_packages_say_it(tmp_path: Path) -> None:
    metadata = read_metadata(make_wheel(tmp_path, {}))
    assert licence_of(metadata) == "MIT"
    del metadata["License-Expression"]
    metadata["Classifier"] = "License :: OSI Approved :: BSD License"
    assert licence_of(metadata) == "BSD License"
    metadata["License"] = "HPND"
    assert licence_of(metadata) == "HPND"
