"""Torch sources: signatures, what is refused, and the import to ONNX against torch itself."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from ferryman.core.artifact import Artifact
from ferryman.core.deployment import ModelSection
from ferryman.core.errors import ConfigError, SourceError, StepError
from ferryman.core.signature import Array
from ferryman.core.step import StepContext
from ferryman.runtimes.torch import TorchRuntime
from ferryman.sources.detect import open_source
from ferryman.sources.torch import ExportedProgramSource, TorchScriptSource, TorchToOnnx, WeightsSource

MakeSection = Callable[..., ModelSection]

NET = """
import torch


class Net(torch.nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, width, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(width)
        self.drop = torch.nn.Dropout(0.5)
        self.head = torch.nn.Linear(width, 5)

    def forward(self, images):
        features = self.drop(torch.relu(self.norm(self.conv(images)))).mean((2, 3))
        return {"scores": self.head(features), "features": features}


def make():
    return Net()


def make_sized(width):
    return Net(width)


def make_list():
    return [1, 2]


def fail():
    raise RuntimeError("no licence")
"""
INPUTS = [{"name": "pictures", "dtype": "float32", "shape": ["batch", 3, 16, 16]}]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make a project's folder with the module's code in it."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "ferryman.toml").touch()
    (folder / "tiny_net.py").write_text(NET, encoding="utf-8")
    return folder


@pytest.fixture
def module(project: Path) -> torch.nn.Module:
    namespace: dict[str, Any] = {"__name__": "tiny_net"}  # what the code defines
    exec(NET, namespace)
    torch.manual_seed(0)
    net: torch.nn.Module = namespace["make"]()
    net.train()
    for _ in range(3):  # batch norm gets statistics that matter
        net(torch.randn(8, 3, 16, 16) * 3 + 1)
    return net.eval()


@pytest.fixture
def program_path(module: torch.nn.Module, project: Path) -> Path:
    batch = torch.export.Dim("batch")
    example = (torch.randn(2, 3, 16, 16),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, example, dynamic_shapes=({0: batch},))
        torch.export.save(program, project / "net.pt2")
    return project / "net.pt2"


class Pair(torch.nn.Module):  # type: ignore[misc]  # torch's types are skipped by mypy
    """Return a tuple of what a module returns as a dictionary."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        answer = self.inner(images)
        return answer["scores"], answer["features"]


def save_trace(module: torch.nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(module, torch.randn(2, 3, 16, 16), strict=False).save(str(path))
    return path


@pytest.fixture
def script_path(module: torch.nn.Module, project: Path) -> Path:
    return save_trace(Pair(module).eval(), project / "net.ts")


@pytest.fixture
def weights_path(module: torch.nn.Module, project: Path) -> Path:
    torch.save(module.state_dict(), project / "net.pt")
    return project / "net.pt"


def ask(path: Path, inputs: dict[str, Array]) -> dict[str, Array]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))


def check_parity(source: Artifact, imported: Artifact) -> None:
    session = TorchRuntime().load(source, threads=1)
    for batch in (1, 7):
        pictures = np.random.default_rng(batch).standard_normal((batch, 3, 16, 16)).astype(np.float32)
        inputs: dict[str, Array] = {source.signature.inputs[0].name: pictures}
        wanted, got = session.infer(inputs), ask(imported.path, inputs)
        assert list(wanted) == list(got) == [spec.name for spec in source.signature.outputs]
        for name, tensor in wanted.items():
            assert tensor.shape[0] == batch
            np.testing.assert_allclose(
                np.asarray(got[name], np.float64), np.asarray(tensor, np.float64), rtol=1e-4, atol=1e-6
            )
    session.close()


def check_import(source: Artifact, tmp_path: Path) -> None:
    first = TorchToOnnx().run(source, StepContext(tmp_path / "first"))
    second = TorchToOnnx().run(source, StepContext(tmp_path / "second"))
    assert first.digest == second.digest
    assert first.signature == source.signature
    assert first.made_by == ("torch-to-onnx",)
    graph = onnx.load(first.path).graph
    assert [value.name for value in graph.input] == [spec.name for spec in source.signature.inputs]
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    content = first.path.read_bytes()
    assert b"stack_trace" not in content
    assert str(tmp_path).encode() not in content
    assert torch.__file__.rsplit("/", 2)[0].encode() not in content
    check_parity(source, first)


def test_an_exported_program_imports(program_path: Path, tmp_path: Path, section: MakeSection) -> None:
    source = open_source(program_path, section(), tmp_path)
    assert source.format == "torch-export"
    assert [(spec.name, spec.shape) for spec in source.signature.inputs] == [("images", ("batch", 3, 16, 16))]
    assert [(spec.name, spec.shape) for spec in source.signature.outputs] == [
        ("scores", ("batch", 5)),
        ("features", ("batch", 8)),
    ]
    check_import(source, tmp_path)


def test_weights_with_a_factory_import(weights_path: Path, tmp_path: Path, section: MakeSection) -> None:
    source = open_source(weights_path, section(factory="tiny_net:make", inputs=INPUTS), tmp_path)
    assert source.format == "torch-weights"
    assert source.loader["folder"] == str(weights_path.parent)
    assert source.signature.outputs[1].shape == ("batch", 8)
    check_import(source, tmp_path)


def test_torchscript_imports(script_path: Path, tmp_path: Path, section: MakeSection) -> None:
    source = open_source(script_path, section(inputs=INPUTS), tmp_path)
    assert source.format == "torchscript"
    check_import(source, tmp_path)


def test_torchscript_that_returns_a_dictionary_is_explained(
    module: torch.nn.Module, project: Path, tmp_path: Path, section: MakeSection
) -> None:
    source = open_source(save_trace(module, project / "net.ts"), section(inputs=INPUTS), tmp_path)
    assert [spec.name for spec in source.signature.outputs] == ["scores", "features"]
    with pytest.raises(StepError, match="DictConstruct") as caught:
        TorchToOnnx().run(source, StepContext(tmp_path / "step"))
    assert "return a tuple" in caught.value.hint


def test_safetensors_and_a_checkpoint_give_the_same_model(
    module: torch.nn.Module, project: Path, tmp_path: Path, section: MakeSection
) -> None:
    from safetensors.torch import save_file

    save_file(module.state_dict(), project / "net.safetensors")
    torch.save({"epoch": 3, "state_dict": module.state_dict()}, project / "checkpoint.ckpt")
    digests = set()
    for name in ("net.safetensors", "checkpoint.ckpt"):
        source = open_source(project / name, section(factory="tiny_net:make", inputs=INPUTS), tmp_path)
        imported = TorchToOnnx().run(source, StepContext(tmp_path / name))
        check_parity(source, imported)
        digests.add(imported.digest)
    assert len(digests) == 1


def test_a_fixed_batch_stays_fixed(weights_path: Path, tmp_path: Path, section: MakeSection) -> None:
    inputs = [{"name": "pictures", "dtype": "float32", "shape": [1, 3, 16, 16]}]
    source = open_source(weights_path, section(factory="tiny_net:make", inputs=inputs), tmp_path)
    assert source.signature.max_batch == 1
    imported = TorchToOnnx().run(source, StepContext(tmp_path / "step"))
    assert ask(imported.path, {"pictures": np.zeros((1, 3, 16, 16), np.float32)})["scores"].shape == (1, 5)


def test_several_dynamic_dimensions_keep_their_names(weights_path: Path, tmp_path: Path, section: MakeSection) -> None:
    inputs = [{"name": "pictures", "dtype": "float32", "shape": ["batch", 3, "height", "width"]}]
    source = open_source(weights_path, section(factory="tiny_net:make", inputs=inputs), tmp_path)
    imported = TorchToOnnx().run(source, StepContext(tmp_path / "step"))
    dims = onnx.load(imported.path).graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 3, "height", "width"]
    assert ask(imported.path, {"pictures": np.zeros((3, 3, 20, 36), np.float32)})["scores"].shape == (3, 5)


def test_changed_code_changes_the_digest(weights_path: Path, tmp_path: Path, section: MakeSection) -> None:
    model = section(factory="tiny_net:make", inputs=INPUTS)
    first = open_source(weights_path, model, tmp_path)
    code = weights_path.parent / "tiny_net.py"
    code.write_text(NET.replace("torch.relu", "torch.tanh"), encoding="utf-8")
    assert open_source(weights_path, model, tmp_path).digest != first.digest


def test_two_projects_may_have_modules_of_one_name(
    weights_path: Path, module: torch.nn.Module, tmp_path: Path, section: MakeSection
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "tiny_net.py").write_text(NET.replace('"scores"', '"points"'), encoding="utf-8")
    torch.save(module.state_dict(), other / "net.pt")
    model = section(factory="tiny_net:make", inputs=INPUTS)
    names = [open_source(path, model, tmp_path).signature.outputs[0].name for path in (weights_path, other / "net.pt")]
    assert names == ["scores", "points"]


def test_weights_without_a_factory_say_what_to_add(weights_path: Path, tmp_path: Path, section: MakeSection) -> None:
    with pytest.raises(ConfigError, match="factory is missing") as caught:
        open_source(weights_path, section(inputs=INPUTS), tmp_path)
    assert "package.module:function" in caught.value.hint


@pytest.mark.parametrize("name", ["net.pt", "net.ts"])
def test_modules_without_inputs_show_an_example(
    name: str, weights_path: Path, script_path: Path, tmp_path: Path, section: MakeSection
) -> None:
    with pytest.raises(ConfigError, match="inputs is missing") as caught:
        open_source(weights_path.parent / name, section(factory="tiny_net:make"), tmp_path)
    assert 'inputs = [{ name = "images"' in caught.value.hint


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("tiny_net", "names no function"),
        ("tiny_net:absent", "has no function 'absent'"),
        ("absent_net:make", "importing absent_net fails: ModuleNotFoundError"),
        ("tiny_net:make_sized", r"needs arguments \(width\)"),
        ("tiny_net:make_list", "gives a list, not a torch.nn.Module"),
        ("tiny_net:fail", "fails: RuntimeError: no licence"),
    ],
)
def test_a_factory_that_does_not_work_is_explained(
    factory: str, words: str, weights_path: Path, tmp_path: Path, section: MakeSection
) -> None:
    with pytest.raises(ConfigError, match=words):
        open_source(weights_path, section(factory=factory, inputs=INPUTS), tmp_path)


def test_missing_and_unexpected_keys_are_named(
    module: torch.nn.Module, project: Path, tmp_path: Path, section: MakeSection
) -> None:
    state = {key.replace("head", "tail"): value for key, value in module.state_dict().items()}
    torch.save(state, project / "net.pt")
    with pytest.raises(SourceError, match=r"2 missing \(head\.weight, head\.bias\); 2 unexpected \(tail\.weight"):
        open_source(project / "net.pt", section(factory="tiny_net:make", inputs=INPUTS), tmp_path)


def test_weights_of_another_size_are_named(
    module: torch.nn.Module, project: Path, tmp_path: Path, section: MakeSection
) -> None:
    state = module.state_dict() | {"head.weight": torch.zeros(9, 8)}
    torch.save(state, project / "net.pt")
    with pytest.raises(SourceError, match=r"size mismatch for head\.weight"):
        open_source(project / "net.pt", section(factory="tiny_net:make", inputs=INPUTS), tmp_path)


def test_a_whole_pickled_module_is_refused(
    module: torch.nn.Module, project: Path, tmp_path: Path, section: MakeSection
) -> None:
    torch.save(torch.nn.Linear(2, 2), project / "whole.pt")
    with pytest.raises(SourceError, match="holds more than tensors") as caught:
        open_source(project / "whole.pt", section(factory="tiny_net:make", inputs=INPUTS), tmp_path)
    assert "state_dict" in caught.value.hint


class Bomb:
    """Touch a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.touch, (self.target,))


def test_code_in_a_torch_file_is_not_run(project: Path, tmp_path: Path, section: MakeSection) -> None:
    target = tmp_path / "it-ran"
    torch.save({"weight": Bomb(target)}, project / "bomb.pt")
    with pytest.raises(SourceError, match="would run code"):
        open_source(project / "bomb.pt", section(factory="tiny_net:make", inputs=INPUTS), tmp_path)
    assert not target.exists()


def test_recognising_weights_runs_no_code(weights_path: Path) -> None:
    (weights_path.parent / "tiny_net.py").write_text("raise SystemExit(1)", encoding="utf-8")
    assert WeightsSource().recognises(weights_path)
    assert not TorchScriptSource().recognises(weights_path)
    assert not ExportedProgramSource().recognises(weights_path)


@pytest.mark.parametrize("header", [b"\xff" * 8 + b"{", b"\x10\0\0\0\0\0\0\0{not json at all", b"\x02\0\0\0\0\0\0\0{}"])
def test_safetensors_with_a_wrong_header_are_refused(
    header: bytes, project: Path, tmp_path: Path, section: MakeSection
) -> None:
    path = project / "net.safetensors"
    path.write_bytes(header)
    with pytest.raises(SourceError):
        open_source(path, section(factory="tiny_net:make", inputs=INPUTS), tmp_path)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_files_that_were_cut_short_are_refused(
    share: float, program_path: Path, script_path: Path, weights_path: Path, tmp_path: Path, section: MakeSection
) -> None:
    for path in (program_path, script_path, weights_path):
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(SourceError):
            open_source(path, section(factory="tiny_net:make", inputs=INPUTS), tmp_path)


def test_inputs_that_do_not_fit_the_module_are_shown(weights_path: Path, tmp_path: Path, section: MakeSection) -> None:
    inputs = [{"name": "pictures", "dtype": "float32", "shape": ["batch", 4, 16, 16]}]
    with pytest.raises(SourceError, match=r"fails on pictures \[2, 4, 16, 16\]"):
        open_source(weights_path, section(factory="tiny_net:make", inputs=inputs), tmp_path)


def test_a_dtype_that_torch_lacks_is_refused(weights_path: Path, tmp_path: Path, section: MakeSection) -> None:
    inputs = [{"name": "pictures", "dtype": "string", "shape": ["batch"]}]
    with pytest.raises(ConfigError, match="dtype 'string'"):
        open_source(weights_path, section(factory="tiny_net:make", inputs=inputs), tmp_path)


def test_a_program_exported_in_training_mode_is_refused(
    module: torch.nn.Module, project: Path, tmp_path: Path, section: MakeSection
) -> None:
    dropout = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5)).train()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(dropout, (torch.zeros(2, 4),)), project / "train.pt2")
    with pytest.raises(SourceError, match="training mode"):
        open_source(project / "train.pt2", section(), tmp_path)


def test_a_module_that_fixes_its_batch_is_explained(project: Path, tmp_path: Path, section: MakeSection) -> None:
    code = "import torch\n\n\nclass Fixed(torch.nn.Linear):\n    def forward(self, rows):\n"
    code += "        return super().forward(rows) if rows.shape[0] != 2 else super().forward(rows) * 2\n\n\n"
    code += "def make():\n    return Fixed(4, 4)\n"
    (project / "fixed_net.py").write_text(code, encoding="utf-8")
    torch.save(torch.nn.Linear(4, 4).state_dict(), project / "fixed.pt")
    inputs = [{"name": "rows", "dtype": "float32", "shape": ["batch", 4]}]
    source = open_source(project / "fixed.pt", section(factory="fixed_net:make", inputs=inputs), tmp_path)
    with pytest.raises(StepError, match="can't export the module") as caught:
        TorchToOnnx().run(source, StepContext(tmp_path / "step"))
    assert "write the number" in caught.value.hint
    assert not list((tmp_path / "step").glob("*"))


def test_a_file_of_something_else_is_not_called_weights_that_lack_a_factory(tmp_path: Path) -> None:
    torch.save({"model": print}, tmp_path / "odd.pt")
    with pytest.raises(SourceError, match=r"refers to .*print"):
        open_source(tmp_path / "odd.pt", ModelSection(name="odd", source="odd.pt"), tmp_path)
