"""Hold the code to its own rules: layers, what an import costs, plug-ins of the right shape, short files."""

import ast
import dataclasses
import inspect
import json
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from ferryman.core.camera import Camera
from ferryman.core.runtime import Runtime
from ferryman.core.source import Source
from ferryman.core.step import Step
from ferryman.core.target import Target
from ferryman.core.task import Task, TaskFactory, TaskSpec

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCE = REPOSITORY / "src" / "ferryman"
MODULES = sorted(SOURCE.rglob("*.py"))
FRAMEWORKS = {
    "torch", "onnx", "onnxruntime", "openvino", "nncf", "sklearn", "skl2onnx", "onnxmltools", "skops", "xgboost",
    "lightgbm", "catboost", "cv2", "pycocotools", "pandas", "scipy", "safetensors", "starlette", "uvicorn",
}  # fmt: skip
TOOLCHAINS = entry_points(group="ferryman.toolchains")
PLUGINS = [
    entry
    for kind in ("sources", "steps", "runtimes", "tasks", "targets", "cameras")
    for entry in entry_points(group=f"ferryman.{kind}")
]
PROTOCOLS = {
    "ferryman.sources": Source,
    "ferryman.steps": Step,
    "ferryman.runtimes": Runtime,
    "ferryman.tasks": TaskFactory,
    "ferryman.targets": Target,
    "ferryman.cameras": Camera,
}
API = {
    "Accepted", "Access", "Answer", "Bom", "Built", "Bundle", "Compared", "Destination", "Examined",
    "ExaminedImage", "FerrymanError", "Initialised", "Made", "Moved", "PackageChoices", "Packaged", "Plan",
    "Planned", "Plugin", "Retrained", "Samples", "Scored", "Signed", "Told", "Verified", "accept", "accept_keyless",
    "add_toolchains", "bom", "broken", "build", "check_records", "config", "count_records", "draw", "export_records",
    "feedback",
    "infer", "init", "installed", "load", "make_key", "pack", "package", "parity", "plan", "plan_package",
    "plan_run", "plan_score", "pull", "push", "records", "remove_toolchain", "report", "report_html", "retrain", "run",
    "schema", "score",
    "serve", "sign", "sign_keyless", "toolchains", "verify", "verify_candidate", "verify_image",
}  # fmt: skip


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def modules_loaded_by(code: str) -> set[str]:
    listing = f"import sys, json\n{code}\nprint('\\n' + json.dumps(sorted(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True, timeout=60)
    names: list[str] = json.loads(result.stdout.splitlines()[-1])
    return {name.partition(".")[0] for name in names}


def test_importing_ferryman_loads_no_framework_and_no_numpy() -> None:
    assert modules_loaded_by("import ferryman") & (FRAMEWORKS | {"numpy", "pydantic"}) == set()


def test_help_loads_no_framework() -> None:
    code = (
        "import contextlib\nfrom ferryman.cli.main import main\nsys.argv = ['ferryman', '--help']\n"
        "with contextlib.suppress(SystemExit): main()"
    )
    assert modules_loaded_by(code) & FRAMEWORKS == set()


def test_finding_every_plugin_loads_no_framework() -> None:
    code = "from ferryman.core.plugins import KINDS, plugins\nfor kind in KINDS: plugins(kind)"
    assert modules_loaded_by(code) & FRAMEWORKS == set()


def test_the_layers_hold() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    result = subprocess.run([linter, "--no-cache"], cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_promised_plugin_is_installed() -> None:
    declared = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    installed = {(entry.group, entry.name, entry.value) for entry in (*PLUGINS, *TOOLCHAINS)}
    assert {(kind, name, value) for kind, group in declared.items() for name, value in group.items()} <= installed


@pytest.mark.parametrize("entry", PLUGINS, ids=lambda entry: f"{entry.group.removeprefix('ferryman.')}-{entry.name}")
class TestPlugin:
    def test_its_entry_point_leads_to_a_class_with_a_summary(self, entry: Any) -> None:  # an EntryPoint
        cls = entry.load()
        assert inspect.isclass(cls)
        assert (cls.__doc__ or "").strip()

    def test_its_name_is_the_one_it_is_registered_under(self, entry: Any) -> None:  # an EntryPoint
        cls = entry.load()
        assert entry.name == (cls.kind if entry.group == "ferryman.tasks" else cls.name)

    def test_it_has_all_that_its_protocol_asks_for(self, entry: Any) -> None:  # an EntryPoint
        cls = entry.load()
        protocol = Task if entry.group == "ferryman.tasks" else PROTOCOLS[entry.group]
        wanted = {name for name in (*inspect.get_annotations(protocol), *vars(protocol)) if not name.startswith("_")}
        assert {name for name in wanted if not hasattr(cls, name)} == set()

    def test_what_it_needs_is_in_the_extra_that_it_names(self, entry: Any) -> None:  # an EntryPoint
        project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extra = getattr(entry.load(), "extra", "")
        assert extra == "" or extra in project["optional-dependencies"]


@pytest.mark.parametrize("entry", entry_points(group="ferryman.steps"), ids=lambda entry: str(entry.name))
def test_a_step_is_a_frozen_dataclass_that_works_without_options(entry: Any) -> None:  # an EntryPoint
    step = entry.load()()
    assert dataclasses.is_dataclass(step)
    assert isinstance(hash(step), int), "a step is a cache key, so its options must be hashable"
    for field in dataclasses.fields(step):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(step, field.name, None)


@pytest.mark.parametrize("entry", entry_points(group="ferryman.tasks"), ids=lambda entry: str(entry.name))
def test_a_task_spec_is_frozen_and_refuses_unknown_keys(entry: Any) -> None:  # an EntryPoint
    spec = entry.load().Spec
    assert issubclass(spec, TaskSpec)
    assert spec.model_config["frozen"] is True
    assert spec.model_config["extra"] == "forbid"


def test_the_public_api_is_what_the_documentation_says() -> None:
    api = import_module("ferryman.api")
    assert set(api.__all__) == API, "a new verb is a promise: add it to API here and to docs/architecture.md"
    assert {name for name in API if not hasattr(api, name)} == set()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_short_and_says_what_it_is_for(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 400
    assert ast.get_docstring(ast.parse(text)), "the first line of a module says what it is for"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_function_is_short(path: Path) -> None:
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    too_long = [node.name for node in functions if (node.end_lineno or 0) - node.lineno >= 50]
    assert too_long == []


def test_only_frameworks_are_imported_inside_functions() -> None:
    own = []
    for path in MODULES:
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for node in ast.walk(function):
                names = (
                    [alias.name for alias in node.names]
                    if isinstance(node, ast.Import)
                    else [node.module or ""]
                    if isinstance(node, ast.ImportFrom)
                    else []
                )
                names = [name for name in names if not name.startswith("ferryman.export._torch")]  # a folder of torch's
                own += [f"{name_of(path)}:{node.lineno} {name}" for name in names if name.startswith("ferryman")]  # type: ignore[attr-defined]  # an import has a line
    assert own == [], "our own modules are imported at the top; a cycle is a sign of a wrong layer"


def test_the_wheel_holds_the_demo_model_and_the_typing_marker() -> None:
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    assert settings["targets"]["wheel"] == {"packages": ["src/ferryman"]}, "everything in the folder is shipped"
    assert (SOURCE / "py.typed").is_file()
    assert (SOURCE / "demo" / "factory_nano.onnx").is_file()


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("notes.md", "see https://py" + "pi.org/project/numpy", "a package registry's address"),
        ("settings.toml", 'model = "/ho' + 'me/someone/model.onnx"', "a path of one machine"),
        ("long.py", "pass\n" * 400, "400 lines"),
    ],
)
def test_the_house_check_refuses(name: str, text: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "house.py"
    script.write_bytes((REPOSITORY / "scripts" / "house.py").read_bytes())
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    assert subprocess.run([sys.executable, script], timeout=30).returncode == 0
    (tmp_path / name).write_text(text, encoding="utf-8")
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=30)
    assert result.returncode == 1
    assert name in result.stderr
    assert fault in result.stderr
