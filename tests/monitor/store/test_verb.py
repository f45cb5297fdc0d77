"""`ferryman records`, as people and programs use it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ferryman.cli.main import main
from ferryman.monitor.store.layout import JOURNAL, sealed_files, segments
from tests.cli.running import ferryman as ferryman_process
from tests.monitor.store.conftest import KeepIn, Kept, record


@dataclass(frozen=True)
class Answer:
    returncode: int
    stdout: str
    stderr: str


Ask = Callable[..., Answer]


@pytest.fixture
def ferryman(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Run a command line in this process: a new one imports all of ferryman each time."""
    monkeypatch.setenv("COLUMNS", "120")

    def ask(*words: str) -> Answer:
        code = main(words)
        told = capsys.readouterr()
        return Answer(code, told.out, told.err)

    return ask


@pytest.fixture
def kept(keep: KeepIn) -> Kept:
    """Give a folder of sealed and unsealed records of two models, with its writer at work."""
    made = keep()
    made.keeper.add([record(number) for number in range(30)])
    made.seal()
    made.keeper.add([record(30, model="churn", outcome="deadline", columns={})])
    return made


def test_the_last_requests_are_a_table(kept: Kept) -> None:
    answer = ferryman_process("records", str(kept.folder), "--last", "3")
    assert answer.returncode == 0, answer.stderr
    lines = answer.stdout.splitlines()
    assert lines[0].split()[:6] == ["time", "model", "version", "outcome", "id", "total_s"]
    assert [line.split()[2] for line in lines[1:4]] == ["churn", "street", "street"]


def test_one_model_in_json(kept: Kept, ferryman: Ask) -> None:
    told = json.loads(ferryman("records", str(kept.folder), "--model", "street", "--last", "2", "--json").stdout)
    assert [row["id"] for row in told["rows"]] == ["id-29", "id-28"]
    assert told["rows"][0]["s_brightness"] == 129.0
    assert told["skipped"] == []


def test_since_leaves_older_ones_out(kept: Kept, ferryman: Ask) -> None:
    assert ferryman("records", str(kept.folder), "--since", "1s").stdout == "no records\n"


def test_counts_and_sql(kept: Kept, ferryman: Ask) -> None:
    told = json.loads(ferryman("records", str(kept.folder), "--count", "model", "outcome", "--json").stdout)
    assert [(row["model"], row["outcome"], row["requests"]) for row in told["rows"]] == [
        ("churn", "deadline", 1),
        ("street", "ok", 30),
    ]
    told = json.loads(
        ferryman("records", str(kept.folder), "--sql", "SELECT max(s_brightness) AS most FROM records", "--json").stdout
    )
    assert told["rows"] == [{"most": 129.0}]


@pytest.mark.parametrize("kind", ["parquet", "csv", "json"])
def test_an_export_holds_all(kept: Kept, ferryman: Ask, tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"all.{kind}"
    answer = ferryman("records", str(kept.folder), "--export", str(file), "--json")
    assert json.loads(answer.stdout)["rows"] == 31
    assert file.stat().st_size > 500
    if kind == "json":
        assert len(json.loads(file.read_text())) == 31


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere",), "nowhere holds no records"),
        (("{}", "--sql", "DROP TABLE records"), "only one SELECT can be run on records"),
        (("{}", "--sql", "SELECT nothing FROM records"), 'Referenced column "nothing" not found'),
        (("{}", "--sql", "SELECT * FROM read_text('/etc/hostname')"), "disabled by configuration"),
        (("{}", "--count", "colour"), "can't be counted by 'colour'"),
        (("{}", "--export", "all.xlsx"), "can't be written as '.xlsx'"),
        (("{}", "{}"), "one folder of records, not 2"),
    ],
)
def test_a_wrong_question_is_the_users_mistake(kept: Kept, ferryman: Ask, words: tuple[str, ...], said: str) -> None:
    answer = ferryman("records", *(word.format(kept.folder) for word in words))
    assert answer.returncode == 2
    assert said in answer.stderr
    assert "hint:" in answer.stderr


def test_check_says_that_all_is_whole_and_who_writes(kept: Kept, ferryman: Ask) -> None:
    answer = ferryman("records", "check", str(kept.folder))
    assert answer.returncode == 0
    assert "whole, process " in answer.stdout


def test_check_names_what_is_damaged(kept: Kept, ferryman: Ask) -> None:
    kept.keeper.close()
    [sealed], [journal] = sealed_files(kept.folder), segments(kept.folder)
    held = bytearray(sealed.path.read_bytes())
    held[len(held) // 2] ^= 1
    sealed.path.write_bytes(held)
    with journal.open("ab") as opened:
        opened.write(b"\xf5FR half a frame")
    told = ferryman("records", "check", str(kept.folder), "--json")
    assert told.returncode == 1
    faults = {fault["file"]: fault["what"] for fault in json.loads(told.stdout)["faults"]}
    assert "not those that were written" in faults[sealed.path.relative_to(kept.folder).as_posix()]
    assert "a torn end of 16 bytes" in faults[f"{JOURNAL}/{journal.name}"]
    kept.keeper = kept._made()
