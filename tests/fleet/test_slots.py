"""Two slots, one link, one journal: whatever is cut, what serves is whole."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ferryman.bundle.read import load_bundle
from ferryman.core.bundle import Bundle
from ferryman.core.errors import NotReady, RegistryError, UserError, WrongAnswers
from ferryman.fleet.service import Files
from ferryman.fleet.slots import ATTEMPTS, Slots
from ferryman.fleet.update import Outcome, Updater, Watch
from ferryman.supply.policy import EVERYTHING
from tests.fleet.powercut import DAMAGES, Damage, Power, in_a_process_of_its_own

Fetch = Callable[[str, Path], None]
AT_ONCE = Watch(for_s=0.0, every_s=0.01, failures=2)


class Told(Files):
    """Be a service that answers as a test says."""

    def __init__(self, *, wrong: str = "", unwell: str = "", stuck: str = "") -> None:
        self.wrong, self.unwell, self.stuck = wrong, unwell, stuck
        self.digests: list[str] = []

    def try_out(self, bundle: Bundle) -> None:
        if bundle.manifest.digest == self.wrong:
            raise WrongAnswers("golden sample '0000' is answered otherwise")
        if bundle.manifest.digest == self.stuck:
            raise NotReady("it doesn't come up")

    def take_up(self, bundle: Bundle) -> None:
        self.digests.append(bundle.manifest.digest)

    def check(self, model: str, digest: str) -> None:
        if digest == self.unwell:
            raise NotReady(f"{model} does not answer")


def updater(slots: Slots, fetch: Fetch, service: Files | None = None) -> Updater:
    return Updater(slots, service or Told(), fetch, EVERYTHING, watch=AT_ONCE)


def unreachable(source: str, folder: Path) -> None:
    raise RegistryError(f"{source} can't be had")


def served(root: Path) -> str:
    """Give the digest of what `current` leads to, checked in full."""
    return load_bundle(root / "current").manifest.digest


def bring(slots: Slots, fetch: Fetch, *sources: str, service: Files | None = None) -> Outcome:
    outcome = Outcome("unchanged")
    for release, source in enumerate(sources, start=1):
        outcome = updater(slots, fetch, service).update(source, release)
    return outcome


def test_updates_go_from_slot_to_slot(tmp_path: Path, fetch: Fetch, versions: dict[str, Bundle]) -> None:
    slots = Slots(tmp_path)
    assert not slots.active
    for source, slot in (("one", "a"), ("two", "b"), ("three", "a")):
        assert bring(slots, fetch, source) == Outcome("updated", source)
        assert slots.current.readlink() == Path("slots") / slot
        assert served(tmp_path) == versions[source].manifest.digest
    assert bring(slots, fetch, "three").kind == "unchanged"


def test_going_back_to_the_version_before_fetches_nothing(tmp_path: Path, fetch: Fetch) -> None:
    slots = Slots(tmp_path)
    bring(slots, fetch, "one", "two")
    assert bring(slots, unreachable, "one") == Outcome("updated", "one")


def test_a_bundle_whose_answers_are_wrong_never_serves_and_is_not_tried_again(
    tmp_path: Path, fetch: Fetch, versions: dict[str, Bundle]
) -> None:
    slots = Slots(tmp_path)
    bring(slots, fetch, "one")
    service = Told(wrong=versions["two"].manifest.digest)
    outcome = bring(slots, fetch, "two", service=service)
    assert outcome.kind == "refused"
    assert "0000" in outcome.reason
    assert service.digests == []
    assert served(tmp_path) == versions["one"].manifest.digest
    assert bring(slots, unreachable, "two").kind == "refused"  # not even fetched


def test_the_golden_samples_are_really_asked(tmp_path: Path, versions: dict[str, Bundle]) -> None:
    Files().try_out(versions["one"])
    mixed = Bundle(**{name: getattr(versions["two"], name) for name in Bundle.__dataclass_fields__})
    object.__setattr__(mixed, "artifact", versions["one"].artifact)
    with pytest.raises(WrongAnswers, match="golden sample"):
        Files().try_out(mixed)


def test_a_bundle_that_is_not_well_after_the_switch_is_taken_back_by_itself(
    tmp_path: Path, fetch: Fetch, versions: dict[str, Bundle]
) -> None:
    slots = Slots(tmp_path)
    bring(slots, fetch, "one")
    one, two = (versions[name].manifest.digest for name in ("one", "two"))
    service = Told(unwell=two)
    assert bring(slots, fetch, "two", service=service).kind == "rolled back"
    assert (served(tmp_path), service.digests) == (one, [two, one])
    assert slots.journal.bad == {"two": "affine does not answer"}


def test_a_bundle_that_does_not_come_up_is_given_three_tries(
    tmp_path: Path, fetch: Fetch, versions: dict[str, Bundle]
) -> None:
    slots = Slots(tmp_path)
    bring(slots, fetch, "one")
    one = updater(slots, fetch, Told(stuck=versions["two"].manifest.digest))
    found = [one.update("two", 2), *(one.resume() for _ in range(ATTEMPTS))]
    assert [outcome.kind for outcome in found if outcome] == ["waiting"] * ATTEMPTS + ["refused"]
    assert served(tmp_path) == versions["one"].manifest.digest


def test_a_bundle_that_comes_damaged_every_time_is_given_up(
    tmp_path: Path, fetch: Fetch, versions: dict[str, Bundle]
) -> None:
    def spoil(source: str, folder: Path) -> None:
        fetch(source, folder)
        (folder / "model" / "affine.onnx").write_bytes(b"nothing")

    slots = Slots(tmp_path)
    bring(slots, fetch, "one")
    found = [updater(slots, spoil).update("two", 2).kind for _ in range(ATTEMPTS)]
    assert found == ["waiting", "waiting", "refused"]
    assert served(tmp_path) == versions["one"].manifest.digest


def test_an_older_release_is_refused_for_ever(tmp_path: Path) -> None:
    Slots(tmp_path).believe(7)
    with pytest.raises(UserError, match=r"release 6 is older than 7.*refused"):
        Slots(tmp_path).believe(6)
    Slots(tmp_path).believe(7)


def test_three_starts_that_nobody_confirmed_lead_back_to_the_other_slot(
    tmp_path: Path, fetch: Fetch, versions: dict[str, Bundle]
) -> None:
    slots = Slots(tmp_path)
    bring(slots, fetch, "one", "two")
    assert [slots.boot() for _ in range(ATTEMPTS)] == [""] * ATTEMPTS
    assert "slot a serves" in slots.boot()
    assert served(tmp_path) == versions["one"].manifest.digest
    slots.confirm()
    assert slots.journal.boots == 0


def test_a_new_bundle_that_the_box_does_not_start_with_is_taken_back_and_remembered(
    tmp_path: Path, fetch: Fetch, versions: dict[str, Bundle]
) -> None:
    slots = Slots(tmp_path)
    bring(slots, fetch, "one")
    slots.begin("two", 2)
    fetch("two", slots.folder("b"))
    for phase in ("trying", "switching"):
        slots.enter(phase)
    for _ in range(ATTEMPTS):
        assert slots.boot() == ""
    assert "slot a serves" in slots.boot()
    assert served(tmp_path) == versions["one"].manifest.digest
    assert slots.journal.bad["two"] == "not well after 3 starts"
    assert slots.journal.change is None


def test_starts_never_lead_to_a_slot_that_is_damaged(tmp_path: Path, fetch: Fetch) -> None:
    slots = Slots(tmp_path)
    bring(slots, fetch, "one", "two")
    shutil.rmtree(slots.folder("a") / "model")
    assert [slots.boot() for _ in range(2 * ATTEMPTS)] == [""] * (2 * ATTEMPTS)
    assert slots.active == "b"


def test_a_journal_that_the_disk_has_lost_keeps_what_serves(
    tmp_path: Path, fetch: Fetch, versions: dict[str, Bundle]
) -> None:
    bring(Slots(tmp_path), fetch, "one")
    (tmp_path / "journal.json").write_bytes(b"\0" * 100)
    slots = Slots(tmp_path)
    assert slots.serving is not None
    assert slots.serving.digest == versions["one"].manifest.digest
    assert bring(slots, fetch, "two").kind == "updated"


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("is_well", [True, False], ids=["an update", "a rollback"])
def test_power_that_goes_at_any_call_leaves_a_whole_version_and_the_next_start_ends_it_right(
    is_well: bool, damage: Damage, tmp_path: Path, fetch: Fetch, versions: dict[str, Bundle]
) -> None:
    start, root = tmp_path / "start", tmp_path / "box"
    bring(Slots(start), fetch, "three", "one")
    one, two = (versions[name].manifest.digest for name in ("one", "two"))
    service = Told(unwell="" if is_well else two)

    def cut_at(power: Power, steps: int) -> bool:
        shutil.copytree(start, root, symlinks=True)
        is_done = power.run(lambda: bring(Slots(root), fetch, "two", service=service), root, steps, damage)
        assert served(root) in (one, two), f"cut at call {steps}"
        slots = Slots(root)
        slots.boot()
        assert served(root) in (one, two), f"started after call {steps}"
        again = updater(slots, fetch, service)
        again.resume()
        kind = again.update("two", 2).kind
        assert kind in (("updated", "unchanged") if is_well else ("rolled back", "refused")), f"cut at call {steps}"
        assert served(root) == (two if is_well else one), f"cut at call {steps}"
        shutil.rmtree(root)
        return is_done

    def cut_everywhere(power: Power) -> None:
        steps = 1
        while not cut_at(power, steps):
            steps += 1
        assert steps > 50

    in_a_process_of_its_own(cut_everywhere)
