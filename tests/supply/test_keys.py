import os
import stat
import subprocess
from pathlib import Path

import pytest

from ferryman.core.errors import ConfigError
from ferryman.supply.keys import load_private, load_public, make_key


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=30)


def test_a_new_key_signs_what_its_public_half_verifies_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    private, public = make_key(tmp_path / "release")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    signature = load_private(private).sign(b"this")
    assert load_public(public).verifies(signature, b"this")
    assert not load_public(public).verifies(signature, b"that")


def test_a_fingerprint_is_what_sha256sum_says_of_the_public_key(keys: Path) -> None:
    said = subprocess.run(["sha256sum", keys / "good.pub"], capture_output=True, text=True, check=True).stdout
    assert load_public(keys / "good.pub").fingerprint == said.split()[0]


@pytest.mark.parametrize("there", ["release.pem", "release.pub"])
def test_a_key_that_is_there_is_never_written_over(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    with pytest.raises(ConfigError, match=there):
        make_key(tmp_path / "release")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(there, "mine")]


def test_a_locked_key_opens_with_its_passphrase_alone(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="is encrypted") as refused:
        load_private(keys / "locked.pem")
    assert "FERRYMAN_KEY_PASSPHRASE" in refused.value.hint
    with pytest.raises(ConfigError, match="the passphrase is wrong"):
        load_private(keys / "locked.pem", passphrase=b"guess")
    monkeypatch.setenv("FERRYMAN_KEY_PASSPHRASE", "opensesame")
    assert load_private(keys / "locked.pem").public.fingerprint == load_public(keys / "locked.pub").fingerprint
    load_private(keys / "good.pem")  # a passphrase that a key doesn't need is no fault


@pytest.mark.parametrize("curve", ["prime256v1", "secp384r1", "secp521r1"])
def test_keys_of_openssl_are_read_in_both_of_its_forms(tmp_path: Path, curve: str) -> None:
    openssl("ecparam", "-name", curve, "-genkey", "-noout", "-out", tmp_path / "sec1.pem")
    openssl("pkcs8", "-topk8", "-nocrypt", "-in", tmp_path / "sec1.pem", "-out", tmp_path / "pkcs8.pem")
    openssl("ec", "-in", tmp_path / "sec1.pem", "-pubout", "-out", tmp_path / "key.pub")
    for form in ("sec1.pem", "pkcs8.pem"):
        key = load_private(tmp_path / form)
        for hashed in ("curve", "sha256"):
            assert load_public(tmp_path / "key.pub").verifies(key.sign(b"this", hashed), b"this", hashed)


def test_a_signature_of_openssl_is_verified(tmp_path: Path, keys: Path) -> None:
    (tmp_path / "text").write_bytes(b"this")
    openssl("dgst", "-sha256", "-sign", keys / "good.pem", "-out", tmp_path / "sig", tmp_path / "text")
    assert load_public(keys / "good.pub").verifies((tmp_path / "sig").read_bytes(), b"this")


def test_keys_of_other_kinds_are_refused_and_say_why(tmp_path: Path) -> None:
    openssl("genpkey", "-algorithm", "ed25519", "-out", tmp_path / "ed.pem")
    openssl("ecparam", "-name", "secp256k1", "-genkey", "-noout", "-out", tmp_path / "coin.pem")
    for name in ("ed.pem", "coin.pem"):
        with pytest.raises(ConfigError, match=f"{name} is no key of the curves"):
            load_private(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no public key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "is no public key"),
        (b"-----BEGIN " + b"A" * 100_000, "is no public key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "is a private key"),
    ],
)
def test_what_is_no_public_key_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "key.pub").write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        load_public(tmp_path / "key.pub")


def test_a_key_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.pem can't be read: No such file"):
        load_private(tmp_path / "gone.pem")


@pytest.mark.tool("cosign")
def test_cosigns_public_key_is_read_and_its_private_one_refused_with_the_way_out(tmp_path: Path) -> None:
    subprocess.run(
        ["cosign", "generate-key-pair", "--output-key-prefix", "theirs"], cwd=tmp_path, check=True, timeout=60,
        capture_output=True, env={**os.environ, "COSIGN_PASSWORD": "x"},
    )  # fmt: skip
    load_public(tmp_path / "theirs.pub")
    with pytest.raises(ConfigError, match="only cosign can open") as refused:
        load_private(tmp_path / "theirs.key")
    assert "--new-key" in refused.value.hint


def test_a_key_may_be_named_by_its_file(tmp_path: Path) -> None:
    assert [file.name for file in make_key(tmp_path / "release.pem")] == ["release.pem", "release.pub"]
    with pytest.raises(ConfigError, match="needs a name"):
        make_key(tmp_path / ".pem")
