import base64
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ferryman.bundle.layout import ATTACHED_LIMIT_BYTES
from ferryman.bundle.pack import pack
from ferryman.bundle.read import load_bundle
from ferryman.bundle.unpack import unpack
from ferryman.core.bundle import BOM, PROVENANCE, SIGNATURE, Choice, Tuning
from ferryman.core.errors import BundleError, Untrusted
from ferryman.server.tuning.keep import keep_tuning
from ferryman.supply.model_signature import check_signature, read_signature
from ferryman.supply.signing import PLAINLY, Wish
from tests.bundle.making import bundle_affine
from tests.supply.making import forge, public, sign, signature_of


def model_signing(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["model_signing", *words], capture_output=True, text=True, timeout=60)


@pytest.mark.tool("model_signing")
def test_openssfs_own_tool_verifies_what_was_signed_here(bundle: Path, keys: Path) -> None:
    sign(bundle, keys, PLAINLY)
    words = ("verify", "key", bundle, "--signature", bundle / SIGNATURE, "--public_key", keys / "good.pub")
    assert "Verification succeeded" in model_signing(*words).stdout
    forge(bundle, "versions.json", b"{}\n")
    refused = model_signing(*words)
    assert refused.returncode != 0
    assert "versions.json" in refused.stderr


@pytest.mark.tool("model_signing")
def test_what_openssfs_own_tool_signed_is_verified_here(bundle: Path, keys: Path) -> None:
    done = model_signing("sign", "key", bundle, "--signature", bundle / SIGNATURE, "--private_key", keys / "good.pem")
    assert done.returncode == 0, done.stderr
    assert check_signature(load_bundle(bundle), [public(keys)]).fingerprint == public(keys).fingerprint
    forge(bundle, "versions.json", b"{}\n")
    with pytest.raises(Untrusted, match=r"versions\.json was changed since it was signed"):
        check_signature(load_bundle(bundle), [public(keys)])


def test_a_signed_bundle_is_the_same_bundle(bundle: Path, keys: Path) -> None:
    before = load_bundle(bundle).manifest
    sign(bundle, keys, PLAINLY)
    assert load_bundle(bundle).manifest == before
    assert check_signature(load_bundle(bundle), [public(keys, "other"), public(keys)]) == public(keys)


def test_a_dry_run_signs_nothing(bundle: Path, keys: Path) -> None:
    sign(bundle, keys, Wish(dry_run=True))
    assert read_signature(load_bundle(bundle)) is None


def flip(file: Path) -> None:
    payload = bytearray(file.read_bytes())
    payload[len(payload) // 2] ^= 1
    file.write_bytes(payload)


def test_a_flipped_byte_in_any_file_is_refused_and_the_file_named(bundle: Path, keys: Path) -> None:
    sign(bundle, keys, PLAINLY)
    for file in sorted(path for path in bundle.rglob("*") if path.is_file()):
        whole = file.read_bytes()
        flip(file)
        with pytest.raises((BundleError, Untrusted), match=file.name):
            check_signature(load_bundle(bundle), [public(keys)])
        file.write_bytes(whole)
    check_signature(load_bundle(bundle), [public(keys)])


@pytest.mark.parametrize("name", ["deployment.json", "proof.json", "golden/samples.json"])
def test_a_change_that_the_manifest_agrees_with_is_refused_all_the_same(bundle: Path, keys: Path, name: str) -> None:
    sign(bundle, keys)
    forge(bundle, name, (bundle / name).read_bytes() + b"\n")
    with pytest.raises(Untrusted, match=f"{name} was changed since it was signed"):
        read_signature(load_bundle(bundle))


def test_an_added_or_removed_file_is_refused_and_named(bundle: Path, keys: Path) -> None:
    sign(bundle, keys)
    (bundle / BOM).write_text("{}")
    with pytest.raises(Untrusted, match=r"bom\.cdx\.json is not covered by model\.sig"):
        read_signature(load_bundle(bundle))
    (bundle / BOM).unlink()
    sign(bundle, keys, PLAINLY)
    (bundle / PROVENANCE).unlink()
    with pytest.raises(Untrusted, match=r"provenance\.json is missing"):
        read_signature(load_bundle(bundle))
    (bundle / "notes.txt").write_text("hello")
    with pytest.raises(BundleError, match=r"notes\.txt does not belong"):
        load_bundle(bundle)


def test_another_key_is_refused_and_both_are_named(bundle: Path, keys: Path) -> None:
    sign(bundle, keys)
    other, good = public(keys, "other"), public(keys)
    with pytest.raises(
        Untrusted, match=f"not signed by .*{other.fingerprint[:16]}.*names the key {good.fingerprint[:16]}"
    ):
        check_signature(load_bundle(bundle), [other])


def test_a_key_that_is_only_claimed_is_refused(bundle: Path, keys: Path) -> None:
    sign(bundle, keys, name="other")
    document = signature_of(bundle)
    document["verificationMaterial"]["publicKey"]["hint"] = public(keys).fingerprint
    (bundle / SIGNATURE).write_text(json.dumps(document))
    with pytest.raises(Untrusted, match=r"model\.sig: the signature is not .*'s, though it says so"):
        check_signature(load_bundle(bundle), [public(keys)])


def test_another_bundles_signature_is_refused(bundle: Path, keys: Path, tmp_path: Path) -> None:
    other = bundle_affine(tmp_path / "second", factor=3.0).path
    sign(other, keys)
    shutil.copy(other / SIGNATURE, bundle / SIGNATURE)
    with pytest.raises(Untrusted, match=r"or model\.sig is another bundle's"):
        check_signature(load_bundle(bundle), [public(keys)])


def test_an_unsigned_bundle_is_refused_where_a_signature_is_asked_for(bundle: Path, keys: Path) -> None:
    with pytest.raises(Untrusted, match="is not signed") as refused:
        check_signature(load_bundle(bundle), [public(keys)])
    assert refused.value.hint.startswith("ferryman sign")


def test_a_truncated_signature_is_refused_at_every_length(bundle: Path, keys: Path) -> None:
    sign(bundle, keys)
    whole = (bundle / SIGNATURE).read_bytes()
    read = load_bundle(bundle)
    for length in range(0, len(whole) - 2, 37):
        (bundle / SIGNATURE).write_bytes(whole[:length])
        with pytest.raises(Untrusted, match=r"model\.sig"):
            check_signature(read, [public(keys)])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_altered_signature_is_anyone_elses(bundle: Path, keys: Path, data: st.DataObject) -> None:
    if not (bundle / "whole").exists() and not (bundle / SIGNATURE).exists():
        sign(bundle, keys)
        (bundle.parent / "whole").write_bytes((bundle / SIGNATURE).read_bytes())
    payload = bytearray((bundle.parent / "whole").read_bytes())
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    (bundle / SIGNATURE).write_bytes(payload)
    read = load_bundle(bundle)
    with pytest.raises(Untrusted):
        check_signature(read, [public(keys, "other")])
    try:
        signer = check_signature(read, [public(keys)])
    except Untrusted:
        return
    assert signer == public(keys), "what is not signed, as the key's name, may be altered: who signed stays true"


def statement(document: dict[str, Any]) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads(base64.b64decode(document["dsseEnvelope"]["payload"]))
    return payload


def with_statement(document: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    said = statement(document)
    change(said)
    document["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(said).encode()).decode()
    return document


HOSTILE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a list": lambda document: [document],
    "a number": lambda document: 7,
    "another media type": lambda document: {**document, "mediaType": "text/plain"},
    "a certificate": lambda document: {**document, "verificationMaterial": {"certificate": {"rawBytes": ""}}},
    "no envelope": lambda document: {**document, "dsseEnvelope": None},
    "no signatures": lambda document: {**document, "dsseEnvelope": {**document["dsseEnvelope"], "signatures": []}},
    "a thousand signatures": lambda document: {
        **document,
        "dsseEnvelope": {**document["dsseEnvelope"], "signatures": document["dsseEnvelope"]["signatures"] * 1000},
    },
    "no base64": lambda document: {**document, "dsseEnvelope": {**document["dsseEnvelope"], "payload": "%%%"}},
    "another statement": lambda document: with_statement(document, lambda said: said.update(_type="x")),
    "another predicate": lambda document: with_statement(document, lambda said: said.update(predicateType="x")),
    "no subject": lambda document: with_statement(document, lambda said: said.update(subject=[])),
    "no digest": lambda document: with_statement(
        document, lambda said: said["predicate"]["resources"][0].update(digest="00")
    ),
    "another digest": lambda document: with_statement(
        document, lambda said: said["predicate"]["resources"][0].update(digest="00" * 32)
    ),
    "blake3": lambda document: with_statement(
        document, lambda said: said["predicate"]["serialization"].update(hash_type="blake3")
    ),
    "a file twice": lambda document: with_statement(
        document, lambda said: said["predicate"]["resources"].append(said["predicate"]["resources"][0])
    ),
    "a file left out": lambda document: with_statement(document, lambda said: said["predicate"]["resources"].pop()),
    "a file outside": lambda document: with_statement(
        document, lambda said: said["predicate"]["resources"][0].update(name="../../etc/passwd")
    ),
    "resources of words": lambda document: with_statement(
        document, lambda said: said["predicate"].update(resources="abc")
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_signature_is_refused_with_and_without_a_policy(bundle: Path, keys: Path, name: str) -> None:
    sign(bundle, keys)
    (bundle / SIGNATURE).write_text(json.dumps(HOSTILE[name](signature_of(bundle))))
    read = load_bundle(bundle)
    for check in (read_signature, lambda one: check_signature(one, [public(keys)])):
        with pytest.raises(Untrusted):
            check(read)


@pytest.mark.parametrize("payload", [b"[" * 200_000, b'{"a":' * 200_000, b"\xff\xfe", b'{"mediaType": 1e999}'])
def test_json_that_would_break_a_reader_is_refused(bundle: Path, payload: bytes) -> None:
    (bundle / SIGNATURE).write_bytes(payload)
    with pytest.raises(Untrusted, match=r"model\.sig"):
        read_signature(load_bundle(bundle))


def test_an_endless_signature_is_refused_unread(bundle: Path) -> None:
    with (bundle / SIGNATURE).open("wb") as stream:
        stream.truncate(ATTACHED_LIMIT_BYTES * 4)
    with pytest.raises(Untrusted, match="is no signature"):
        read_signature(load_bundle(bundle))


def test_a_packed_bundle_carries_its_signature_and_can_be_signed_itself(
    bundle: Path, keys: Path, tmp_path: Path
) -> None:
    sign(bundle, keys, PLAINLY)
    file = pack(bundle, tmp_path / "sent.ferry")
    first = load_bundle(file, unpack_into=tmp_path / "cache")
    assert check_signature(first, [public(keys)]) == public(keys)
    sign(bundle, keys, name="other")
    again = load_bundle(pack(bundle, file), unpack_into=tmp_path / "cache")
    assert again.path != first.path, "what was unpacked before has the old signature"
    assert check_signature(again, [public(keys, "other")]) == public(keys, "other")
    sign(file, keys)
    assert check_signature(load_bundle(file, unpack_into=tmp_path / "cache"), [public(keys)]) == public(keys)


def smuggled(file: Path, *members: tuple[tarfile.TarInfo, bytes]) -> None:
    """Put members right behind the manifest of a .ferry file, where what is about a bundle lies."""
    with tarfile.open(file) as tar:
        kept = [(member, tar.extractfile(member)) for member in tar.getmembers()]
        parts = [(member, stream.read() if stream else b"") for member, stream in kept]
    with tarfile.open(file, "w") as tar:
        for member, payload in (parts[0], *members, *parts[1:]):
            tar.addfile(member, io.BytesIO(payload))


def named(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = size, kind, "/etc/passwd" if kind == tarfile.SYMTYPE else ""
    return member


@pytest.mark.parametrize(
    "members",
    [
        ((named(SIGNATURE, kind=tarfile.SYMTYPE), b""),),
        ((named(SIGNATURE, 2), b"{}"), (named(SIGNATURE, 2), b"{}")),
        ((named(BOM, ATTACHED_LIMIT_BYTES + 1), bytes(ATTACHED_LIMIT_BYTES + 1)),),
        ((named("notes.txt", 2), b"hi"),),
    ],
    ids=["a link", "twice", "too large", "a stranger"],
)
def test_what_is_smuggled_in_beside_a_packed_bundle_is_refused(
    bundle: Path, tmp_path: Path, members: tuple[tuple[tarfile.TarInfo, bytes], ...]
) -> None:
    file = pack(bundle, tmp_path / "sent.ferry")
    smuggled(file, *members)
    with pytest.raises(BundleError, match=members[0][0].name):
        unpack(file, into=tmp_path / "cache")


def test_a_manifest_that_lists_its_own_signature_is_refused(bundle: Path) -> None:
    forge(bundle, SIGNATURE, b"{}")
    with pytest.raises(BundleError, match=r"lists model\.sig"):
        load_bundle(bundle)


def test_tuning_takes_a_signature_away_and_says_so(bundle: Path, keys: Path) -> None:
    tuning = Tuning(
        choice=Choice(threads=1, instances=1, max_batch=1), cores=1, machine={}, limit_p99_ms=1, limit_from="given",
        rate_rps=1, curve=(), trials=(), seconds=1,
    )  # fmt: skip
    assert keep_tuning(bundle, tuning)[1] == ""
    sign(bundle, keys, PLAINLY)
    tuned, warning = keep_tuning(bundle, tuning)
    assert "sign it again" in warning
    assert read_signature(tuned) is None
    assert (bundle / BOM).is_file(), "the bundle is what it was"
    sign(bundle, keys)
    assert check_signature(load_bundle(bundle), [public(keys)]) == public(keys), "it covers the tuning now"
