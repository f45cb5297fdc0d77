"""A bundle whose contract doesn't hold says so at every door."""

import shutil
from pathlib import Path

import pytest

from ferryman import api
from ferryman.bundle.write import write_bundle
from ferryman.core.errors import BundleError, ConfigError, ContractBroken, InputError
from tests.bundle.making import bundle_colour, plain_picture
from tests.cli.running import ferryman
from tests.server.running import refusal, running

WORDS = "bundle colour does not keep its contract: accuracy fell by 0.2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a sound bundle, a broken one, and pictures of which the second is none."""
    folder = tmp_path_factory.mktemp("broken")
    sound = bundle_colour(folder / "colour")
    broken = sound.proof.model_copy(update={"holds": False, "verdict": "accuracy fell by 0.2"})
    write_bundle(
        folder / "broken",
        deployment=sound.deployment,
        artifact=sound.artifact,
        proof=broken,
        golden=sound.golden,
        tolerance=sound.tolerance,
        baseline=sound.baseline,
        versions=sound.versions,
    )
    for name in ("first.png", "third.png"):
        (folder / name).write_bytes(plain_picture(250, 10, 10))
    (folder / "second.png").write_text("no picture", encoding="utf-8")
    return folder


def test_serve_refuses_it_with_the_verdict_and_the_way_out(folder: Path) -> None:
    answer = ferryman("serve", "broken", "--port", "0", folder=folder)
    assert (answer.returncode, answer.stdout) == (3, "")
    assert f"error: {WORDS}" in answer.stderr
    assert "hint: --allow-broken serves it all the same" in answer.stderr
    assert refusal([folder / "broken"])[0] == ContractBroken.exit_code


def test_serve_serves_it_where_that_is_asked_for(folder: Path) -> None:
    with running([folder / "broken"], allow_broken=True) as server:
        assert server.ask("GET", "/v2/health/ready")[0] == 200
        assert WORDS in server.log()


def test_infer_and_pack_warn_of_it_and_go_on(folder: Path, tmp_path: Path) -> None:
    for words in (("infer", "broken", "first.png"), ("pack", "broken", str(tmp_path / "a.ferry"))):
        answer = ferryman(*words, folder=folder)
        assert answer.returncode == 0
        assert f"warning: {WORDS}" in answer.stderr
    assert "warning" not in ferryman("infer", "colour", "first.png", folder=folder).stderr


def test_a_refused_picture_is_named_and_costs_no_answer_before_it(folder: Path) -> None:
    with running([folder / "colour"]) as server:
        for target in (server.url, "colour"):
            words = ("infer", target, "first.png", "second.png", "third.png", "--draw", "drawn")
            answer = ferryman(*words, folder=folder)
            assert answer.returncode == 2
            assert "error: second.png" in answer.stderr
            assert "first.png" in answer.stdout
            assert (folder / "drawn" / "000-first.png").is_file()
            shutil.rmtree(folder / "drawn")


def test_an_address_without_its_scheme_is_seen(folder: Path) -> None:
    answer = ferryman("infer", "localhost:8131", "first.png", folder=folder)
    assert answer.returncode == 2
    assert "hint: did you mean http://localhost:8131?" in answer.stderr
    with pytest.raises(BundleError, match="there is no bundle"):
        api.infer("nowhere", ["first.png"])


def test_names_of_files_may_be_text(folder: Path) -> None:
    (answer,) = api.infer(str(folder / "colour"), [str(folder / "first.png")])
    api.draw(str(folder / "colour"), str(folder / "first.png"), answer, str(folder / "text.jpg"))
    assert (folder / "text.jpg").read_bytes().startswith(b"\xff\xd8")
    assert api.load(str(folder / "colour")).manifest.name == "colour"
    assert api.pack(str(folder / "colour"), str(folder / "text.ferry")).is_file()
    assert api.verify(str(folder / "colour")).holds
    with pytest.raises(InputError, match="one item was given"):
        api.infer(folder / "colour", "first.png")


def test_a_picture_that_can_not_be_drawn_says_whether_place_or_kind_is_wrong(folder: Path) -> None:
    for out, words in (
        ("/proc/x.jpg", "can't write to /proc/x.jpg"),
        ("/proc/x", "can't write to /proc/x"),
        ("x.gif", "can't write '.gif' pictures"),
    ):
        answer = ferryman("infer", "colour", "first.png", "--draw", out, folder=folder)
        assert answer.returncode == 2
        assert f"{words}" in answer.stderr
    with pytest.raises(ConfigError, match="unknown kind of picture"):
        api.draw(folder / "colour", folder / "first.png", {}, folder / "x.gif")
