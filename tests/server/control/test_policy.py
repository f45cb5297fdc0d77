"""What nobody who is trusted signed is never served, and never takes the place of what is."""

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ferryman.core.errors import Untrusted
from ferryman.supply.keys import load_private, load_public, make_key
from ferryman.supply.policy import Policy
from ferryman.supply.signing import Wish, sign_bundle
from tests.bundle.making import bundle_affine
from tests.server.control.house import house, live, until
from tests.server.running import refusal, running
from tests.supply.making import forge

ONES = [[1, 1, 1]]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("good", "other"):
        make_key(folder / name)
    return folder


def sign(bundle: Path, keys: Path, name: str = "good") -> None:
    sign_bundle(bundle, load_private(keys / f"{name}.pem"), Wish(bare=True))


def sign_and_forge(bundle: Path, keys: Path) -> None:
    sign(bundle, keys)
    forge(bundle, "versions.json", b"{}\n")


def trusting(keys: Path) -> Policy:
    return Policy((load_public(keys / "good.pub"),))


def shelve(repository: Path, version: str, factor: float) -> Path:
    return bundle_affine(repository / "affine" / version, factor=factor, name="affine").path


def test_a_new_version_takes_over_only_once_it_is_signed_and_whole(tmp_path: Path, keys: Path) -> None:
    repository = tmp_path / "repository"
    sign(shelve(repository, "1", 1.0), keys)

    async def story() -> None:
        async with house([repository], policy=trusting(keys)) as one:
            assert await one.first("affine", values=ONES) == 2.0
            second = shelve(repository, "2", 2.0)
            spoilt: list[tuple[Callable[[], None], str]] = [
                (lambda: None, "is not signed"),
                (lambda: sign(second, keys, "other"), "not signed by"),
                (lambda: sign_and_forge(second, keys), "versions.json was changed"),
            ]
            for spoil, said in spoilt:
                spoil()
                await one.repository.refresh()
                assert await one.first("affine", values=ONES) == 2.0
                assert said in one.states("affine")["2"]
            shutil.rmtree(second)
            sign(shelve(repository, "2", 2.0), keys)
            await one.repository.refresh()
            assert await one.first("affine", values=ONES) == 3.0

    live(story)


def test_a_broken_signature_is_refused_where_no_policy_asks_for_one(tmp_path: Path, keys: Path) -> None:
    repository = tmp_path / "repository"
    shelve(repository, "1", 1.0)

    async def story() -> None:
        async with house([repository]) as one:
            second = shelve(repository, "2", 2.0)
            sign(second, keys)
            forge(second, "versions.json", b"{}\n")
            await one.repository.refresh()
            assert await one.first("affine", values=ONES) == 2.0
            assert "versions.json was changed since it was signed" in one.states("affine")["2"]
            (second / "model.sig").unlink()
            later = time.time() + 1  # than a tick of the file system's clock
            os.utime(second, (later, later))
            await one.repository.refresh()
            assert await one.first("affine", values=ONES) == 3.0

    live(story)


def test_a_worker_that_comes_back_never_loads_what_was_put_in_the_checked_bundles_place(
    tmp_path: Path, keys: Path
) -> None:
    bundle = bundle_affine(tmp_path / "affine", factor=1.0, name="affine").path
    sign(bundle, keys)

    async def story() -> None:
        async with house([bundle], policy=trusting(keys)) as one:
            assert await one.first("affine", values=ONES) == 2.0
            shutil.rmtree(bundle)
            bundle_affine(bundle, factor=9.0, name="affine")
            os.kill(one.pids("affine")[0], signal.SIGKILL)
            await until(lambda: "was replaced since it was checked" in one.supervisor("affine").last_error)

    live(story)


def test_a_server_refuses_to_start_with_an_unsigned_bundle_and_serves_a_signed_one(tmp_path: Path, keys: Path) -> None:
    bundle = bundle_affine(tmp_path / "affine", name="affine").path
    (keys / "policy.toml").write_text('keys = ["good.pub"]')
    code, said = refusal([bundle], policy=keys / "policy.toml")
    assert code == Untrusted.exit_code
    assert "affine is not signed: it has no model.sig; ferryman sign" in said
    sign(bundle, keys)
    with running([bundle], policy=keys / "policy.toml") as server:
        assert server.ask("GET", "/v2/health/ready")[0] == 200
