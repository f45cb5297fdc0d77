"""`ferryman deploy` from the command line, the schema, and what a bundle says of itself to a target."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema_rs
import numpy as np
import pytest
import yaml

from ferryman import api
from ferryman.core.bundle import Bundle
from ferryman.core.contract import Contract
from ferryman.core.deployment import deployment_schema, load_project
from ferryman.core.errors import ConfigError
from ferryman.core.plugins import plugins
from ferryman.core.target import Change
from ferryman.targets.compare import compare_files
from ferryman.targets.landing import label_of, land, memory_mb
from tests.bundle.making import bundle_model, make_affine
from tests.cli.running import ferryman
from tests.targets.making import EVERYTHING, IMAGE, KEDA, render, target

TOML = """\
[model]
name = "affine"
source = "affine.onnx"
[task]
kind = "tensor"
[targets.prod]
kind = "kubernetes"
image = "{image}"
namespace = "models"
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "ferryman.toml").write_text(TOML.format(image=IMAGE))
    item = {"values": np.array([[1.0, 2.0, 3.0]], np.float32)}
    bundle_model(folder / "dist" / "affine", make_affine(folder), {"kind": "tensor"}, [item], name="affine")
    return folder


def test_render_writes_the_files_of_a_target_of_the_project(project: Path, tmp_path: Path) -> None:
    done = ferryman("deploy", "render", "prod", "--project", str(project), "--output", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "out" / "deployment.yaml") in done.stdout.splitlines()
    deployment = yaml.safe_load((tmp_path / "out" / "deployment.yaml").read_text())
    assert deployment["metadata"]["namespace"] == "models"
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGE


def test_a_dry_run_of_render_writes_nothing(project: Path, tmp_path: Path) -> None:
    done = ferryman("deploy", "render", "prod", "--project", str(project), "--dry-run", "--json", folder=tmp_path)
    assert "deployment.yaml" in json.loads(done.stdout)["files"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["kubernetes", "kserve", "compose"])
def test_a_kind_needs_no_section_of_its_own(kind: str, project: Path, tmp_path: Path) -> None:
    words = ("--project", str(project), "--image", IMAGE, "--output", str(tmp_path))
    done = ferryman("deploy", "render", kind, *words)
    assert done.returncode == 0, done.stderr
    assert any(IMAGE in file.read_text() for file in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("render", "stage"), "there is no [targets.stage]; "),
        (("render", "kserve"), "which image of affine goes to kserve?"),
        (("render", "compose", "--image", "Not An Image"), "Not An Image"),
        (("sail", "prod"), "sail"),
        (("render", "prod", "--bundle", "nowhere"), "nowhere"),
    ],
)
def test_a_mistake_is_named_with_the_way_out(words: tuple[str, ...], said: str, project: Path) -> None:
    done = ferryman("deploy", *words, "--project", str(project))
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "hint: " in done.stderr


def test_a_wrong_key_stops_every_verb_that_reads_the_project(tmp_path: Path) -> None:
    (tmp_path / "ferryman.toml").write_text(TOML.format(image=IMAGE) + "replicsa = 3\n")
    with pytest.raises(ConfigError, match=r"unknown key 'targets.prod.replicsa'; did you mean 'replicas'\?"):
        load_project(tmp_path)


def test_where_it_lands_is_no_part_of_a_bundle(project: Path) -> None:
    assert json.loads((project / "dist" / "affine" / "deployment.json").read_text())["targets"] == {}


def test_the_schema_knows_every_target_and_its_keys() -> None:
    schema = jsonschema_rs.validator_for(deployment_schema())
    whole: dict[str, Any] = {"model": {"name": "m", "source": "m.onnx"}, "task": {"kind": "tensor"}}
    for section in ({"kind": "kubernetes", **EVERYTHING}, {"kind": "kubernetes", **KEDA}, {"kind": "systemd"}):
        schema.validate(whole | {"targets": {"prod": section}})
    assert not schema.is_valid(whole | {"targets": {"prod": {"kind": "kubernetes", "replicsa": 3}}})
    assert not schema.is_valid(whole | {"targets": {"prod": {"kind": "submarine"}}})


@pytest.mark.parametrize(
    "kind", [name for name in plugins("targets") if name in ("kubernetes", "kserve", "compose", "systemd")]
)
def test_a_target_is_frozen_and_renders_equal_bytes_without_its_packages(kind: str) -> None:
    one = target(kind)
    with pytest.raises(Exception, match="frozen"):
        one.image = "x"
    assert hash(one.kind)
    assert render(kind) == render(kind)


def test_memory_is_the_contracts_with_head_room() -> None:
    assert memory_mb(None) == 1024
    assert memory_mb(400) == 477 + 192  # 400 MB x 1.25 are 476.8 MiB


@pytest.mark.parametrize(
    ("model", "label"),
    [("street", "street"), ("Factory_Nano.v2", "factory-nano-v2"), ("9lives", "lives"), ("a" * 60, "a" * 40)],
)
def test_a_models_name_becomes_a_dns_label(model: str, label: str) -> None:
    assert label_of(model) == label


def test_a_name_that_leaves_no_label_asks_for_one() -> None:
    with pytest.raises(ConfigError, match="gives no DNS label"):
        label_of("123")


def test_a_landing_says_what_the_bundle_was_promised_and_built_for(project: Path) -> None:
    bundle: Bundle = api.load(project / "dist" / "affine")
    plain = land(bundle, target("kubernetes"), IMAGE)
    assert (plain.cpus, plain.threads, plain.memory_mb) == (1.0, 1, 1024)
    contract, build = Contract(max_rss_mb=400), bundle.deployment.build.model_copy(update={"threads": 4})
    changed = bundle.deployment.model_copy(update={"contract": contract, "build": build})
    promised = land(replace(bundle, deployment=changed), target("kubernetes"), IMAGE)
    assert (promised.cpus, promised.threads, promised.memory_mb) == (4.0, 0, 669)
    told = land(bundle, target("kubernetes", cpus=2.5, memory_mb=99), IMAGE)
    assert (told.cpus, told.threads, told.memory_mb) == (2.5, 3, 99)


def test_files_are_compared_by_name() -> None:
    changes = compare_files({"a": "1\n", "b": "1\n", "c": "1\n"}, {"a": "1\n", "b": "2\n", "d": "1\n"})
    assert changes[0] == Change("keep", "a")
    assert [(change.move, change.what) for change in changes[1:]] == [("change", "b"), ("create", "d"), ("remove", "c")]
    assert changes[1].diff == "@@ -1 +1 @@\n-1\n+2"
