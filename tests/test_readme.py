"""Run what the README shows: commands in order, their output, settings and Python."""

import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import ferryman.demo
from ferryman.core.artifact import Artifact
from ferryman.core.deployment import parse_deployment
from ferryman.core.runtime import Runtime
from ferryman.core.signature import Signature, TensorSpec
from ferryman.demo.belt import write_dataset
from tests.ports import free_port

REPOSITORY = Path(__file__).resolve().parent.parent
README = REPOSITORY / "README.md"
PORT = "8080"  # the one that the README names; a free one stands in for it here
SERVER_DEADLINE_S = 120


@dataclass(frozen=True, slots=True)
class Block:
    language: str
    info: str
    text: str
    line: int


def blocks_of(markdown: str) -> list[Block]:
    found: list[Block] = []
    lines: list[str] = []
    opened: tuple[str, str, int] | None = None
    for number, line in enumerate(markdown.splitlines(), start=1):
        fence = re.match(r"```(\w*) ?(.*)$", line)
        if fence and opened is None:
            opened, lines = (fence.group(1), fence.group(2).strip(), number), []
        elif fence and opened is not None:
            found.append(Block(opened[0], opened[1], "\n".join(lines), opened[2]))
            opened = None
        else:
            lines.append(line)
    return found


BLOCKS = blocks_of(README.read_text(encoding="utf-8"))


def shape_of(line: str) -> str:
    """Give a line without what differs from run to run: numbers, digests, widths."""
    line = re.sub(r"\b[0-9a-f]{12,64}\b", "#", line)
    return re.sub(r"[\s─-]+", " ", re.sub(r"\d+(\.\d+)?(e[+-]\d+)?", "#", line)).strip()


def missing_lines(shown: str, printed: str) -> list[str]:
    """Give the lines of the README that the command didn't print in this order; `...` stands for anything."""
    rest = [shape_of(line) for line in printed.splitlines()]
    missing = []
    for line in shown.splitlines():
        start, dots, _ = line.partition("...")
        wanted = shape_of(start)
        places = [at for at, other in enumerate(rest) if (other.startswith(wanted) if dots else other == wanted)]
        if places:
            rest = rest[places[0] + (line.strip() != "...") :]
        elif wanted:
            missing.append(line)
    return missing


class Terminal:
    """Run the README's commands in one folder, keep servers in the background, stop them at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = str(free_port())
        self.servers: list[subprocess.Popen[bytes]] = []
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "FERRYMAN_CACHE": str(folder / "cache"),
            "COLUMNS": "110",
            "NO_COLOR": "1",
        }

    def run(self, commands: str) -> str:
        commands = commands.replace(PORT, self.port)
        background = [line for line in commands.splitlines() if line.rstrip().endswith("&")]
        for line in background:
            self._start(line.rstrip().removesuffix("&"))
        rest = "\n".join(line for line in commands.splitlines() if line not in background)
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", rest],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=280,
        )  # fmt: skip
        assert result.returncode == 0, f"{rest}\n{result.stdout}\n{result.stderr}"
        return (result.stdout + result.stderr).replace(self.port, PORT)

    def _start(self, command: str) -> None:
        with (self.folder / "server.log").open("wb") as log:
            server = subprocess.Popen(
                shlex.split(command), cwd=self.folder, env=self.environment, stdout=log, stderr=log
            )  # fmt: skip
        self.servers.append(server)
        deadline = time.monotonic() + SERVER_DEADLINE_S
        while not self._is_ready():
            said = (self.folder / "server.log").read_text(encoding="utf-8")
            assert server.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v2/health/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def close(self) -> None:
        for server in self.servers:
            server.send_signal(signal.SIGTERM)
        for server in self.servers:
            server.wait(timeout=30)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """Give a terminal in a folder with what the README starts from: the shipped model, pictures and labels."""
    model = Path(ferryman.demo.__path__[0]) / "factory_nano.onnx"
    (tmp_path / "factory_nano.onnx").write_bytes(model.read_bytes())
    write_dataset(tmp_path / "calib", count=40, seed=11_000_000)
    write_dataset(tmp_path / "val", count=40, seed=12_000_000)
    opened = Terminal(tmp_path)
    yield opened
    opened.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_command_works_and_prints_what_is_shown(terminal: Terminal) -> None:
    printed = ""
    for block in BLOCKS:
        if block.language == "bash" and block.info != "install":
            printed = terminal.run(block.text)
        elif block.language == "text":
            missing = missing_lines(block.text, printed)
            assert missing == [], f"README.md:{block.line} shows what is not printed:\n{missing}\n---\n{printed}"
        elif block.language == "python":
            script = terminal.folder / "readme.py"
            script.write_text(block.text.replace(PORT, terminal.port), encoding="utf-8")
            printed = terminal.run("python readme.py")


def test_every_settings_file_is_valid() -> None:
    shown = [block for block in BLOCKS if block.language == "toml"]
    assert shown
    for block in shown:
        assert parse_deployment(tomllib.loads(block.text), origin=f"README.md:{block.line}")


def test_the_install_commands_name_extras_that_exist() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    shown = "\n".join(block.text for block in BLOCKS if block.info == "install")
    named = {extra.strip() for group in re.findall(r"\[([a-z, ]+)\]", shown) for extra in group.split(",")}
    assert named
    assert named <= set(project["optional-dependencies"])


def test_every_block_says_what_it_is() -> None:
    assert {block.language for block in BLOCKS} <= {"bash", "text", "toml", "python"}


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text(encoding="utf-8"))
    assert [link for link in links if not (REPOSITORY / link).exists()] == []


def test_it_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_the_backend_of_the_architecture_page_works_as_it_stands(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    module = tmp_path / "linear.py"
    module.write_text(next(block.text for block in blocks_of(page) if block.language == "python"), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("linear", module)
    assert spec is not None and spec.loader is not None
    linear = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(linear)
    np.save(tmp_path / "weights.npy", np.full((2, 1), 3.0, np.float32))
    signature = Signature(
        inputs=(TensorSpec(name="rows", dtype="float32", shape=("batch", 2)),),
        outputs=(TensorSpec(name="sums", dtype="float32", shape=("batch", 1)),),
    )
    runtime: Runtime = linear.LinearRuntime()
    session = runtime.load(Artifact(tmp_path / "weights.npy", "linear", signature, digest=""), threads=1)
    assert session.infer({"rows": np.ones((1, 2), np.float32)})["sums"].tolist() == [[6.0]]


@pytest.mark.parametrize("page", sorted((REPOSITORY / "docs").rglob("*.md")), ids=lambda page: str(page.name))
def test_links_of_the_documentation_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
