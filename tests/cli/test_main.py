import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ferryman import __version__
from ferryman.cli.main import VERBS, main
from tests.bundle.making import make_table_model
from tests.cli.running import ferryman

HEAVY = ("numpy", "pydantic", "onnx", "onnxruntime", "torch", "openvino", "cv2", "sklearn", "starlette")


def test_help_names_every_verb_with_what_it_does() -> None:
    answer = ferryman("--help")
    assert answer.returncode == 0
    for verb, summary in VERBS.items():
        assert verb in answer.stdout
        assert summary in answer.stdout


@pytest.mark.parametrize("statement", ["import ferryman", "from ferryman.cli.main import main; main(['--help'])"])
def test_neither_import_nor_help_loads_a_framework(statement: str) -> None:
    script = (
        "import sys\n"
        f"try:\n    {statement.replace('; ', chr(10) + '    ')}\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "LOADED []"


def test_version_is_the_packages() -> None:
    assert ferryman("--version").stdout == f"ferryman {__version__}\n"


def test_an_unknown_verb_is_the_users_mistake_and_the_nearest_is_named() -> None:
    answer = ferryman("biuld")
    assert answer.returncode == 2
    assert "error: there is no verb 'biuld'" in answer.stderr
    assert "hint: did you mean build?" in answer.stderr
    assert answer.stdout == ""


def test_no_verb_shows_the_help_and_is_a_mistake() -> None:
    answer = ferryman()
    assert answer.returncode == 2
    assert "verbs:" in answer.stderr


def test_an_unknown_option_names_the_nearest() -> None:
    answer = ferryman("build", "--fersh")
    assert answer.returncode == 2
    assert "did you mean --fresh?" in answer.stderr


def test_an_option_is_never_guessed_from_its_beginning() -> None:
    assert ferryman("build", "--fre").returncode == 2


def test_a_wrong_port_is_refused_with_the_value() -> None:
    answer = ferryman("serve", "nowhere", "--port", "99999")
    assert answer.returncode == 2
    assert "99999 is no port" in answer.stderr


def test_with_json_an_error_is_one_json_document_too() -> None:
    answer = ferryman("inspect", "nowhere", "--json")
    assert answer.returncode == 2
    told = json.loads(answer.stdout)
    assert "nowhere" in told["error"]
    assert set(told) == {"error", "hint"}
    assert answer.stderr.startswith("error: ")


def test_a_usage_error_is_json_too_when_json_was_asked_for() -> None:
    assert "unrecognized" in json.loads(ferryman("--json", "plan", "--nothing").stdout)["error"]


def test_debug_shows_the_trace_and_otherwise_nobody_sees_one() -> None:
    assert "Traceback" not in ferryman("inspect", "nowhere").stderr
    assert "Traceback" in ferryman("--debug", "inspect", "nowhere").stderr


def test_there_are_no_colours_away_from_a_terminal() -> None:
    answer = ferryman("inspect", "nowhere")
    assert "\x1b" not in answer.stderr + answer.stdout


def test_control_characters_of_an_argument_do_not_reach_the_terminal(tmp_path: Path) -> None:
    answer = ferryman("inspect", "\x1b[2Jgone", folder=tmp_path)
    assert "\x1b" not in answer.stderr


def test_an_ascii_terminal_gets_plain_signs() -> None:
    answer = ferryman("doctor", PYTHONIOENCODING="ascii")
    assert answer.returncode == 0
    assert "+ the core works" in answer.stdout


def test_a_closed_pipe_ends_quietly() -> None:
    command = f"{sys.executable} -m ferryman schema | head -c 1; exit ${{PIPESTATUS[0]}}"
    answer = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert answer.stderr == ""


def test_sigterm_ends_as_ctrl_c_does_with_its_own_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminating(io.StringIO):
        def read(self, size: int | None = -1, /) -> str:
            os.kill(os.getpid(), signal.SIGTERM)
            return super().read(size)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(sys, "stdin", Terminating("{}"))
    assert main(["infer", "nowhere", "-"]) == 143
    assert capsys.readouterr().err == "stopped\n"
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert stopped.value.code == 0
    told = capsys.readouterr().out
    assert f"usage: ferryman {verb}" in told
    assert "example:\n" in told
    assert "ferryman" in told.split("example:")[1]


def test_every_verb_is_in_one_small_file() -> None:
    folder = Path(main.__code__.co_filename).parent
    for verb in VERBS:
        assert len((folder / f"{verb}.py").read_text().splitlines()) <= 80


@pytest.mark.parametrize("folder", ["/sys/ferryman", "a-file/within", "a-file"])
def test_a_place_where_nothing_can_be_written_is_the_users_to_mend(tmp_path: Path, folder: str) -> None:
    (tmp_path / "a-file").write_text("text", encoding="utf-8")
    answer = ferryman("init", str(make_table_model(tmp_path)), "--folder", folder, folder=tmp_path)
    assert answer.returncode == 2
    assert folder.split("/within")[0] in answer.stderr
    assert "fault of ferryman" not in answer.stderr


def test_options_may_stand_before_between_and_behind_what_a_verb_takes() -> None:
    for words in (("list", "torch", "--json"), ("--json", "list", "torch"), ("list", "--json", "torch")):
        answer = ferryman("toolchain", *words)
        assert answer.returncode == 0, answer.stderr
        assert [one["name"] for one in json.loads(answer.stdout)["toolchains"]] == ["torch"]
