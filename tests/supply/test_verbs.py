"""The verbs sign, accept and bom as people use them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ferryman.cli.main import main
from ferryman.core.bundle import ATTACHED
from tests.supply.making import forge, sign

Captured = pytest.CaptureFixture[str]


def test_from_a_new_key_to_an_accepted_bundle(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sign", "--new-key", "release"]) == 0
    assert main(["sign", "affine", "--key", "release.pem"]) == 0
    told = capsys.readouterr()
    assert "bom.cdx.json, provenance.json, model.sig" in told.out
    assert "weights' licence is unknown" in told.err
    assert main(["accept", "affine", "--require-signature", "release.pub", "--json"]) == 0
    accepted = json.loads(capsys.readouterr().out)
    assert (accepted["signer"], accepted["is_signed"]) == ("release.pub", True)
    assert accepted["digest"].removeprefix("sha256:") == json.loads((bundle / "bundle.json").read_text())["digest"]
    forge(bundle, "versions.json", b"{}\n")
    assert main(["accept", "affine", "--json"]) == 2
    assert "versions.json was changed since it was signed" in json.loads(capsys.readouterr().out)["error"]


def test_a_policy_may_be_named_by_the_environment(
    bundle: Path, keys: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    policy = keys / "named.toml"
    policy.write_text('keys = ["good.pub"]')
    monkeypatch.setenv("FERRYMAN_POLICY", str(policy))
    sign(bundle, keys, name="other")
    assert main(["accept", str(bundle)]) == 2
    sign(bundle, keys)
    assert main(["accept", str(bundle)]) == 0
    assert "good.pub" in capsys.readouterr().out


def test_a_bill_of_materials_is_printed_or_written_whole(bundle: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["bom", str(bundle), "--quiet"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["bomFormat"] == "CycloneDX"
    assert printed.err == ""
    assert main(["bom", str(bundle), str(tmp_path / "p.json"), "--provenance"]) == 0
    assert json.loads((tmp_path / "p.json").read_text())["predicateType"] == "https://slsa.dev/provenance/v1"
    capsys.readouterr()
    assert main(["bom", str(bundle), str(tmp_path / "no.json"), "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("would write ")
    assert not (tmp_path / "no.json").exists()


def test_a_bill_of_materials_replaces_one_and_nothing_else(bundle: Path, tmp_path: Path, capsys: Captured) -> None:
    other, file = tmp_path / "notes.txt", tmp_path / "bom.json"
    other.write_text("a day's work")
    assert main(["bom", str(bundle), str(other)]) == 2
    assert "is neither a bill of materials nor a provenance" in capsys.readouterr().err
    assert other.read_text() == "a day's work"
    for words in ([], ["--provenance"], []):
        assert main(["bom", str(bundle), str(file), *words]) == 0
    assert json.loads(file.read_text())["bomFormat"] == "CycloneDX"


@pytest.mark.parametrize("is_dry", [True, False])
def test_the_json_of_sign_and_bom_says_whether_it_was_a_dry_run(
    is_dry: bool, bundle: Path, keys: Path, tmp_path: Path, capsys: Captured
) -> None:
    dry = ["--dry-run"] if is_dry else []
    assert main(["sign", str(bundle), "--key", str(keys / "good.pem"), "--json", *dry]) == 0
    assert json.loads(capsys.readouterr().out)["dry_run"] is is_dry
    assert main(["bom", str(bundle), str(tmp_path / "bom.json"), "--json", *dry]) == 0
    assert json.loads(capsys.readouterr().out)["dry_run"] is is_dry


def test_a_dry_run_of_signing_writes_nothing(bundle: Path, keys: Path, capsys: Captured) -> None:
    assert main(["sign", str(bundle), "--key", str(keys / "good.pem"), "--dry-run"]) == 0
    assert "would write" in capsys.readouterr().out
    assert not any((bundle / name).exists() for name in ATTACHED)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sign"], "sign what"),
        (["sign", "nowhere"], "with which key"),
        (["sign", "nowhere", "--keyless", "--dry-run"], "takes neither"),
        (["sign", "--new-key", "new", "--dry-run"], "nothing else"),
        (["sign", "--new-key", "open", "--encrypt"], "with which passphrase"),
        (["sign", "nowhere", "--keyless"], "nowhere is no image's name"),
        (["sign", "nowhere", "--key", "good.pub"], "is a public key"),
        (["accept", "--require-signature", "good.pub", "a.ferry"], "is no key: what is checked is named before"),
        (["sign", "nowhere", "--key", "good.pem"], "there is no bundle at nowhere"),
        (["sign", "nowhere", "--key", "gone.pem"], "gone.pem can't be read"),
        (["accept", "nowhere", "--require-signature", "good.pub"], "there is no bundle at nowhere"),
        (["accept", "nowhere", "--identity", "ada@example.com"], "needs its issuer"),
        (["accept", "nowhere", "--identity", "ada@example.com", "--issuer", "x"], "nowhere is no image's name"),
        (
            ["accept", "a/b:1", "--identity", "a@b.c", "--issuer", "x", "--require-signature", "good.pub"],
            "an identity, or a policy",
        ),
        (["accept", "localhost:1/none:1"], "whose signature"),
        (["bom", "nowhere"], "there is no bundle at nowhere"),
    ],
)
def test_a_mistake_is_told_in_a_line_and_is_the_users(
    keys: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, words: list[str], said: str
) -> None:
    monkeypatch.chdir(keys)
    monkeypatch.delenv("FERRYMAN_POLICY", raising=False)
    assert main(words) == 2
    assert said in capsys.readouterr().err
    assert not Path("open.pem").exists()


def test_a_server_without_a_policy_loads_no_cryptography() -> None:
    code = "import sys, ferryman.cli.serve; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_locked_key_is_opened_by_the_environments_passphrase(
    bundle: Path, keys: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    words = ["sign", str(bundle), "--key", str(keys / "locked.pem"), "--bare"]
    assert main(words) == 2
    assert "FERRYMAN_KEY_PASSPHRASE" in capsys.readouterr().err
    monkeypatch.setenv("FERRYMAN_KEY_PASSPHRASE", "opensesame")
    assert main(words) == 0
