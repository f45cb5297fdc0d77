import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from ferryman import api
from ferryman.bundle.read import load_bundle
from ferryman.core.bundle import BOM, PROVENANCE
from ferryman.core.errors import ConfigError, Untrusted
from ferryman.supply.policy import EVERYTHING, Policy, make_policy, read_policy
from ferryman.supply.signing import PLAINLY
from ferryman.supply.verbs import pull, push
from tests.bundle.making import bundle_affine
from tests.supply.making import forge, public, sign


def write(folder: Path, text: str) -> Path:
    file = folder / "policy.toml"
    file.write_text(text)
    return file


def test_without_a_policy_everything_is_accepted_but_what_was_altered_since_it_was_signed(
    bundle: Path, keys: Path
) -> None:
    assert EVERYTHING.check(load_bundle(bundle)) is None
    sign(bundle, keys, name="other")
    assert EVERYTHING.check(load_bundle(bundle)) is None
    forge(bundle, "versions.json", b"{}\n")
    with pytest.raises(Untrusted, match=r"versions\.json was changed"):
        EVERYTHING.check(load_bundle(bundle))


def test_what_was_altered_since_it_was_signed_is_neither_pushed_nor_packaged(bundle: Path, keys: Path) -> None:
    sign(bundle, keys)
    forge(bundle, "versions.json", b"{}\n")
    with pytest.raises(Untrusted, match=r"versions\.json was changed"):
        push(bundle, "localhost:1/affine:1")
    with pytest.raises(Untrusted, match=r"versions\.json was changed"):
        api.package(bundle, tag="localhost/affine:1")


def test_a_policy_names_keys_from_its_own_folder_and_more_may_be_named_beside_it(bundle: Path, keys: Path) -> None:
    policy = read_policy(write(keys, 'keys = ["good.pub"]'))
    sign(bundle, keys)
    assert policy.check(load_bundle(bundle)) == public(keys)
    sign(bundle, keys, name="other")
    with pytest.raises(Untrusted, match="not signed by"):
        policy.check(load_bundle(bundle))
    both = make_policy(keys / "policy.toml", [keys / "other.pub"])
    assert both.check(load_bundle(bundle)) == public(keys, "other")


@pytest.mark.parametrize(("part", "name"), [("bom", BOM), ("provenance", PROVENANCE)])
def test_what_a_policy_asks_for_beside_a_signature_must_be_there_and_about_this_bundle(
    bundle: Path, keys: Path, tmp_path: Path, part: str, name: str
) -> None:
    policy = make_policy(write(keys, f'keys = ["good.pub"]\nrequire = ["{part}"]'))
    sign(bundle, keys)
    with pytest.raises(Untrusted, match=f"has no {name}"):
        policy.check(load_bundle(bundle))
    sign(bundle, keys, PLAINLY)
    assert policy.check(load_bundle(bundle)) == public(keys)
    other = bundle_affine(tmp_path / "second", factor=3.0).path
    sign(other, keys, PLAINLY)
    for payload, said in (
        ((other / name).read_bytes(), "is about another bundle"),
        (b"{}", f"{name} is no"),
        (b"{", f"{name} is not whole"),
        (b"[1]", f"{name} is no"),
        (json.dumps({"metadata": {"component": {"hashes": 1}}, "subject": 1}).encode(), f"{name} is no"),
    ):
        (bundle / name).write_bytes(payload)
        sign(bundle, keys)  # by who may, and all the same it says nothing of this bundle
        with pytest.raises(Untrusted, match=said):
            policy.check(load_bundle(bundle))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("keys = []", "'keys'"),
        ('require = ["bom"]', "'keys': Field required"),
        ('keys = ["good.pub"]\nrequire = ["blood"]', "'require.0'"),
        ('keys = ["good.pub"]\nsigned = true', "'signed'"),
        ("keys =", "is not valid TOML"),
        ('keys = ["gone.pub"]', r"gone\.pub can't be read"),
        ('keys = ["good.pem"]', r"good\.pem is a private key"),
        ("\x00\udc80", "is not valid TOML"),
    ],
)
def test_a_policy_that_says_less_than_it_seems_is_refused(keys: Path, text: str, said: str) -> None:
    file = keys / "policy.toml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=said):
        read_policy(file)


def test_a_policy_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nobody\.toml can't be read"):
        read_policy(tmp_path / "nobody.toml")


def test_a_policy_is_a_value(keys: Path) -> None:
    assert Policy((public(keys),)) == Policy((public(keys),)) != EVERYTHING


@pytest.mark.tool("docker-registry")
def test_a_pull_never_puts_what_is_not_accepted_in_the_place_of_what_is(
    bundle: Path, keys: Path, registry_host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, place = Policy((public(keys),)), tmp_path / "taken"
    sign(bundle, keys, PLAINLY)
    push(bundle, f"{registry_host}/street:1")
    pull(f"{registry_host}/street:1", place, policy=policy)
    assert policy.check(load_bundle(place)) == public(keys)
    sign(bundle, keys, name="other")
    push(bundle, f"{registry_host}/street:2")
    with pytest.raises(
        Untrusted, match=rf"^{registry_host}/street@sha256:[0-9a-f]*/model\.sig: not signed by"
    ) as refused:
        pull(f"{registry_host}/street:2", place, policy=policy)
    assert "partial" not in f"{refused.value} {refused.value.hint}", "that folder is gone"
    forge(bundle, "versions.json", b"{}\n")
    with monkeypatch.context() as another:  # a program that asks nothing before it pushes
        another.setattr("ferryman.supply.modelpack.EVERYTHING", SimpleNamespace(check=lambda bundle: None))
        push(bundle, f"{registry_host}/street:3")
    with pytest.raises(Untrusted, match=r"versions\.json was changed"):
        pull(f"{registry_host}/street:3", place)
    assert policy.check(load_bundle(place)) == public(keys), "what was there still is"
