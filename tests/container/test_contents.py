"""Layers as streams: what is read from them, and what is refused; no engine is needed."""

import gzip
import io
import json
import tarfile
import time
from pathlib import Path

import pytest

from ferryman.container.contents import Contents, Entry, Layer, flatten, read_stream
from ferryman.container.secrets import scan_env, scan_file, scan_history
from ferryman.container.source import _names_in
from ferryman.core.errors import FerrymanError, UserError


def layer(files: dict[str, bytes], *, mode: int = 0o644, links: dict[str, str] | None = None) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            tar.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return packed.getvalue()


def archive(*layers: bytes, config: object | None = None) -> bytes:
    names = [f"{place}.tar" for place in range(len(layers))]
    parts = dict(zip(names, layers, strict=True))
    parts["config.json"] = json.dumps(config or {}).encode()
    parts["manifest.json"] = json.dumps([{"Config": "config.json", "Layers": names}]).encode()
    return layer(parts)


def read(payload: bytes, into: Path, *, compress: bool = False) -> Contents:
    return read_stream(io.BytesIO(payload), "/bundle", into, compress=compress)


def test_a_later_layer_replaces_and_hides_what_an_earlier_one_has(tmp_path: Path) -> None:
    first = layer({"bin/sh": b"#!", "etc/a/b": b"1", "srv/x": b"old", "bundle/bundle.json": b"{}", "bundle/m": b"1"})
    second = layer({"bin/.wh.sh": b"", "etc/a/.wh..wh..opq": b"", "etc/a/c": b"2", "srv/x": b"newer",
                    "bundle/.wh.m": b"", "bundle/n": b"2"})  # fmt: skip
    found = read(archive(first, second), tmp_path)
    assert {path: one.size for path, one in found.files.items() if not path.startswith("bundle")} == {
        "etc/a/c": 1, "srv/x": 5,
    }  # fmt: skip
    assert found.bundle is not None
    assert sorted(path.name for path in found.bundle.iterdir()) == ["bundle.json", "n"]


def test_a_file_is_hidden_only_by_a_whiteout_not_by_a_name_that_holds_the_word(tmp_path: Path) -> None:
    kept = layer({"bin/su.wh.do": b"#!"}, mode=0o4755)
    assert list(read(archive(kept), tmp_path / "kept").files) == ["bin/su.wh.do"]
    hidden = read(archive(kept, layer({".wh..wh..opq": b"", "srv/x": b"1"})), tmp_path / "hidden")
    assert list(hidden.files) == ["srv/x"], "the whole root is new"


def test_many_files_of_which_many_are_hidden_take_seconds_at_most() -> None:
    first = Layer("first", entries=[Entry(f"usr/lib/{place % 300}/{place}", 0o644, True, 1) for place in range(60_000)])
    later = Layer("later", entries=[Entry(f"usr/lib/{place % 300}/.wh.{place}", 0, True, 0) for place in range(3_000)])
    started_s = time.monotonic()
    assert len(flatten([first, later])) == 57_000
    assert time.monotonic() - started_s < 10


def test_a_packed_layer_counts_with_its_unpacked_size(tmp_path: Path) -> None:
    plain = layer({"zeros": bytes(100_000)})
    found = read(archive(gzip.compress(plain)), tmp_path, compress=True)
    assert found.layers[0].size_bytes == len(plain)
    assert 0 < found.layers[0].gzip_bytes < 5_000


def test_no_path_of_a_layer_leads_out_of_the_folder(tmp_path: Path) -> None:
    into = tmp_path / "into"
    into.mkdir()
    hostile = layer(
        {"/bundle/../../evil": b"x", "bundle/../../../evil": b"x", "../bundle/evil": b"x", "/etc/passwd": b""},
        links={"bundle/link": "/etc/passwd"},
    )
    found = read(archive(hostile), into)
    assert [path.name for path in tmp_path.iterdir()] == ["into"]
    assert set(found.files) == {"evil", "bundle/evil", "etc/passwd", "bundle/link"}
    assert not any(path.is_symlink() for path in into.rglob("*"))


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"no tar", archive(layer({"a": b"1" * 5000}))[:3000], layer({"manifest.json": b"[]"}),
        layer({"manifest.json": b"[{}]"}), layer({"manifest.json": b"[{"}),
        layer({"manifest.json": json.dumps([{"Config": "c", "Layers": ["no-such.tar"]}]).encode()}),
        archive(gzip.compress(layer({"a": b"1" * 5000}))[:60]),
    ],
)  # fmt: skip
def test_what_is_no_whole_image_is_refused(payload: bytes, tmp_path: Path) -> None:
    with pytest.raises(FerrymanError, match="the image's layers can't be read"):
        read(payload, tmp_path)


def test_a_file_that_gives_more_rights_is_seen_in_its_mode(tmp_path: Path) -> None:
    found = read(archive(layer({"bin/su": b"x"}, mode=0o4755)), tmp_path)
    assert found.files["bin/su"].mode & 0o4000


@pytest.mark.parametrize(
    ("path", "content", "is_leak"),
    [
        ("root/.aws/credentials", b"[default]", True),
        ("home/app/.netrc", b"machine x", True),
        ("home/app/.netrc", b"", False),
        ("srv/notes.txt", b"token ghp_" + b"a1B2" * 9, True),
        ("srv/notes.txt", b"AKIA" + b"ABCDEFGHIJKLMNOP", True),
        ("usr/lib/python3/ssl.py", b'"-----BEGIN PRIVATE KEY-----"', False),
        ("etc/ssl/certs/ca.pem", b"-----BEGIN CERTIFICATE-----\n" + b"MIIE" * 40, False),
    ],
)
def test_a_file_is_taken_for_a_secret_by_its_name_or_content(path: str, content: bytes, is_leak: bool) -> None:
    assert bool(scan_file(path, len(content), io.BytesIO(content))) is is_leak


def test_a_variable_is_taken_for_a_secret_unless_it_names_a_file_or_nothing() -> None:
    given = ["DB_PASSWORD=x", "API_KEY=x", "TOKEN=", "TOKEN_FILE=/run/t", "SECRET=$OTHER", "PATH=/bin", "GPG_KEY=E3FF"]
    assert [leak.where for leak in scan_env(given)] == ["$DB_PASSWORD", "$API_KEY"]
    steps = [{"created_by": "RUN |1 NPM_TOKEN=abc123 /bin/sh -c npm i"}, {"created_by": "COPY . ."}, {}]
    assert [leak.where for leak in scan_history(steps)] == ["history step 1: NPM_TOKEN"]


def test_what_is_no_archive_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"^\S+ is no docker archive: [^\n:]+$"):
        _names_in(tmp_path / "rows.csv")
