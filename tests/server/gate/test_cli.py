import json
import subprocess
import sys
from pathlib import Path

# The verb's module is run as `ferryman` runs it, wherever it is in the list of verbs.
PROGRAM = "import sys; from ferryman.cli import main; main.VERBS.setdefault('keys', 'keys'); sys.exit(main.main())"


def ferryman(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], capture_output=True, encoding="utf-8", timeout=60, check=False
    )


def test_a_token_is_told_once_and_the_file_follows_every_command(tmp_path: Path) -> None:
    file = str(tmp_path / "keys.json")
    added = ferryman("keys", "add", "web", "--models", "street-*", "--rate", "50", "--file", file)
    assert added.returncode == 0 and added.stdout.startswith("fm_")
    rotated = json.loads(ferryman("keys", "rotate", "web", "--grace", "30m", "--file", file, "--json").stdout)
    assert rotated["token"] != added.stdout.strip() and rotated["models"] == ["street-*"]
    listed = ferryman("keys", "list", "--file", file, "--json")
    assert [key["expires"] is None for key in json.loads(listed.stdout)["keys"]] == [False, True]
    assert "sha256" not in listed.stdout and "salt" not in listed.stdout and rotated["token"] not in listed.stdout
    assert ferryman("keys", "revoke", "web", "--file", file).returncode == 0
    assert json.loads(Path(file).read_text())["keys"] == []


def test_a_mistake_is_told_with_the_way_out(tmp_path: Path) -> None:
    file = str(tmp_path / "keys.json")
    for words in (
        ("list",),
        ("revoke", "web"),
        ("add",),
        ("add", "a b"),
        ("add", "web", "--burst", "3"),
        ("add", "web", "--expires", "soon"),
        ("add", "web", "--expires", "9999999d"),
    ):
        told = ferryman("keys", *words, "--file", file)
        assert told.returncode == 2 and told.stderr.startswith("error:") and "verb" not in told.stderr
        assert not any(sign in told.stderr for sign in ("^", "Value error", "pattern"))
    assert "it begins with a letter or a digit" in ferryman("keys", "add", "a b", "--file", file).stderr
