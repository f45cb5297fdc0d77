import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ferryman.core.artifact import Artifact
from ferryman.core.errors import NotApplicable, SourceError
from ferryman.core.privacy import forbid_telemetry
from ferryman.export.openvino import ToOpenVINO, ToOpenVINOHalf
from ferryman.runtimes.openvino import OpenVINORuntime
from tests.optimize.making import answer, context_of, make_convolutions, make_tree, pictures

forbid_telemetry()  # or else the very import below would report to the maker
pytest.importorskip("openvino", reason="NOT TESTED: the extra openvino is not installed")


def _names(artifact: Artifact) -> set[str]:
    return {stage.node for stage in OpenVINORuntime().stages(artifact)}


def test_answers_are_those_of_the_source(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    converted = ToOpenVINO().run(source, context_of(tmp_path / "work"))
    session = OpenVINORuntime().load(converted, threads=1)
    item = pictures(1)[0]
    got = session.infer(item)["output"].astype(np.float32)
    np.testing.assert_allclose(got, answer(source, item), rtol=1e-4, atol=1e-4)
    assert (converted.format, converted.precision, converted.made_by) == ("openvino", "fp32", ("openvino",))
    session.close()


def test_half_precision_halves_the_weights(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    full = ToOpenVINO().run(source, context_of(tmp_path / "full"))
    half = ToOpenVINOHalf().run(source, context_of(tmp_path / "half"))
    sizes = [(artifact.path / "model.bin").stat().st_size for artifact in (half, full)]
    assert sizes[0] < 0.65 * sizes[1]
    assert half.precision == "fp16"


def test_equal_models_make_equal_files_whatever_was_converted_before(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    first = ToOpenVINO().run(source, context_of(tmp_path / "first"))
    ToOpenVINO().run(make_convolutions(tmp_path / "other.onnx", batch=2), context_of(tmp_path / "other"))
    assert ToOpenVINO().run(source, context_of(tmp_path / "second")).digest == first.digest


def test_nothing_of_this_machine_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "secret place"
    folder.mkdir()
    source = make_convolutions(folder / "customer.onnx")
    converted = ToOpenVINO().run(source, context_of(tmp_path / "work"))
    text = (converted.path / "model.xml").read_text("utf-8")
    assert "secret place" not in text
    assert "customer" not in text


def test_layers_keep_their_names_where_others_were_folded_into_them(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    text = (ToOpenVINO().run(source, context_of(tmp_path / "work")).path / "model.xml").read_text("utf-8")
    for name in ("stem", "depthwise", "pointwise", "box_head", "class_head", "add", "pool", "join"):
        assert f'name="{name}"' in text


def test_operators_that_openvino_lacks_are_named(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "model.onnx")
    with pytest.raises(NotApplicable, match="TreeEnsembleRegressor"):
        ToOpenVINO().run(source, context_of(tmp_path / "work"))
    assert not (tmp_path / "work").exists()


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "model.onnx")
    source.path.unlink()
    with pytest.raises(SourceError, match=r"there is no ONNX file .*model\.onnx"):
        ToOpenVINO().run(source, context_of(tmp_path / "work"))


def test_neither_converting_nor_quantizing_writes_to_the_home_folder_or_calls_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    program = (
        "import socket, sys\n"
        "from pathlib import Path\n"
        "def refuse(*arguments, **options):\n"
        "    print('CALLED HOME', arguments, flush=True)\n"
        "    raise OSError('no network')\n"
        "socket.socket.connect = refuse\n"
        "socket.getaddrinfo = refuse\n"
        "from tests.optimize.making import context_of, make_convolutions, pictures\n"
        "from ferryman.export.openvino import ToOpenVINO\n"
        "from ferryman.optimize.openvino_int8 import OpenVINOInt8\n"
        "folder = Path(sys.argv[1])\n"
        "converted = ToOpenVINO().run(make_convolutions(folder / 'm.onnx'), context_of(folder / 'openvino'))\n"
        "OpenVINOInt8(min_samples=2).run(converted, context_of(folder / 'int8', pictures(2)))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env={**environment, "HOME": str(home), "XDG_CACHE_HOME": str(tmp_path / "cache")},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "CALLED HOME" not in done.stdout + done.stderr
    assert list(home.iterdir()) == []
