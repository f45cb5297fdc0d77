"""Run what docs/serving.md and docs/operating.md show: commands in their order, their output, and Python."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import ferryman.demo
from ferryman.cli.main import main
from ferryman.core.task import Item
from ferryman.demo.belt import LABELS, write_dataset
from tests.bundle.making import bundle_model, make_table_model
from tests.ports import free_ports
from tests.test_readme import REPOSITORY, Terminal, blocks_of, missing_lines

GUIDES = [REPOSITORY / "docs" / name for name in ("serving.md", "operating.md")]
TEXT = "\n".join(guide.read_text(encoding="utf-8") for guide in GUIDES)
PORTS = ("8080", "8081")  # those that the guide names: for callers, and for steering
BLOCKS = blocks_of(TEXT)
TASK = {
    "kind": "detect", "decoder": "yolov8", "labels": list(LABELS),
    "input": {"size": [320, 320], "fit": "letterbox", "anchor": "center", "channels": "RGB", "scale": 1 / 255},
}  # fmt: skip


class GuideTerminal(Terminal):
    """Run lines in their order; a server ends where the next one begins, as they share a port."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.ports = [str(port) for port in free_ports(2)]

    def run(self, commands: str) -> str:
        """Run a block; a line that ends with & is a server, which is ready before the next line runs."""
        printed, lines = "", list[str]()
        for line in self.localize(commands).splitlines():
            if not line.rstrip().endswith("&"):
                lines.append(line)
                continue
            printed += super().run("\n".join(lines))
            lines = []
            self.close()
            self.servers.clear()
            self._start(line.rstrip().removesuffix("&"))
        return printed + super().run("\n".join(lines))

    def localize(self, text: str) -> str:
        """Put free ports in the place of those that the guide names."""
        for shown, free in zip(PORTS, self.ports, strict=True):
            text = text.replace(shown, free)
        return text

    def _is_ready(self) -> bool:
        return "ready: " in (self.folder / "server.log").read_text(encoding="utf-8")


def less_sure(model: Path, path: Path) -> Path:
    """Write the detector with all scores a little lower: a version that answers almost the same."""
    graph = onnx.load(model)
    output = graph.graph.output[0]
    factors = np.ones((1, 4 + len(LABELS), 1), np.float32)
    factors[:, 4:] = 0.96
    for node in graph.graph.node:
        node.output[:] = ["whole" if name == output.name else name for name in node.output]
    graph.graph.initializer.append(numpy_helper.from_array(factors, "factors"))
    graph.graph.node.append(helper.make_node("Mul", ["whole", "factors"], [output.name]))
    onnx.save(graph, path)
    return path


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[GuideTerminal]:
    """Give a terminal in a folder with what the guide starts from: three bundles and some pictures."""
    write_dataset(tmp_path / "val", count=40, seed=12_000_000)
    pictures: list[Item] = [path.read_bytes() for path in sorted((tmp_path / "val" / "images").iterdir())[:2]]
    detector = Path(ferryman.demo.__path__[0]) / "factory_nano.onnx"
    other = less_sure(detector, tmp_path / "other.onnx")
    for name, model in (("factory_nano", detector), ("factory_nano-fp32", other)):
        bundle_model(tmp_path / "dist" / name, model, TASK, pictures, name="factory_nano")
    columns = ("months", "price", "calls")
    rows: list[Item] = [dict(zip(columns, values, strict=True)) for values in ((1.0, 2.0, 0.5), (0.0, 0.0, 3.0))]
    table = {"kind": "tabular", "columns": list(columns), "labels": ["stays", "leaves"]}
    bundle_model(tmp_path / "dist" / "churn", make_table_model(tmp_path / "table"), table, rows, name="churn")
    opened = GuideTerminal(tmp_path)
    yield opened
    opened.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("openssl")), reason="needs curl and openssl")
def test_every_command_works_and_prints_what_is_shown(terminal: GuideTerminal) -> None:
    pytest.importorskip("tritonclient")
    pytest.importorskip("websockets")
    printed = ""
    for block in BLOCKS:
        if block.language == "bash":
            printed = terminal.run(block.text)
        elif block.language == "python":
            (terminal.folder / "guide.py").write_text(terminal.localize(block.text), encoding="utf-8")
            printed = terminal.run("python guide.py")
        elif block.language == "text":
            missing = missing_lines(block.text, printed)
            assert missing == [], f"block at line {block.line} shows what is not printed:\n{missing}\n---\n{printed}"


def test_every_block_says_what_it_is() -> None:
    assert {block.language for block in BLOCKS} <= {"bash", "text", "python", "yaml"}  # which test_alerts.py reads


def test_every_option_that_is_named_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    known = ""
    for verb in ("serve", "rollout", "keys", "tune", "conformance"):
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        known += capsys.readouterr().out
    shown = "\n".join(line for line in TEXT.splitlines() if line.startswith("ferryman "))
    quoted = " ".join(re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.S)))
    named = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", f"{shown} {quoted}"))
    assert len(named) > 20
    assert sorted(option for option in named if not re.search(rf"{option}\b", known)) == []


def test_every_metric_that_is_named_is_there() -> None:
    named = set(re.findall(r"`(ferryman_\w+)`", TEXT))
    assert named
    folder = REPOSITORY / "src" / "ferryman" / "server"
    source = "\n".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.py"))
    assert sorted(name for name in named if f'"{name}"' not in source) == []
