"""Serving needs few packages: each other one may be missing, and the answers are the same."""

import json
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from ferryman.bundle.read import load_bundle
from ferryman.package.needs import closure, roots_of
from ferryman.package.target import Target
from tests.bundle.making import plain_picture
from tests.ports import free_port
from tests.server.platforms import started_by

MISSING = (
    "onnx", "cv2", "pycocotools", "torch", "torchvision", "openvino", "nncf", "pandas", "scipy", "sklearn", "skl2onnx",
    "xgboost", "lightgbm", "catboost", "matplotlib", "transformers", "tokenizers", "grpc", "h2", "requests",
    "setuptools", "pytest", "hypothesis", "tritonclient", "opentelemetry", "cryptography", "jwt",
)  # fmt: skip
WITHOUT = """
import sys
for name in {missing}:
    sys.modules[name] = None  # as if it were not installed, here and in all that is forked from here
from ferryman.cli.main import main
sys.exit(main(["serve"]))
"""
LISTED = "import sys, ferryman.cli.serve; print(*{name.partition('.')[0] for name in sys.modules})"


@pytest.mark.parametrize("name", ["colour", "table", "affine"])
def test_a_bundle_is_served_where_nothing_else_is_installed(
    name: str, bundles: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "ferryman_without.py").write_text(WITHOUT.format(missing=MISSING))
    port = free_port()
    environment = {
        "FERRYMAN_BUNDLE": str(bundles[name]), "PORT": str(port), "FERRYMAN_ADMIN_PORT": "off",
        "PYTHONPATH": str(tmp_path),
    }  # fmt: skip
    with started_by(environment, port=port, module="ferryman_without") as server:
        if name == "colour":
            for suffix in (".png", ".jpg", ".webp"):
                picture = plain_picture(10, 250, 10, suffix=suffix)
                status, answer, _ = server.ask("POST", "/invocations", picture, {"Content-Type": "image/any"})
                assert (status, answer["answers"][0]["labels"][0]) == (200, "green")
        else:
            status, answer, _ = server.ask(
                "POST", "/invocations", json.dumps({"instances": [[1, 2, 3]]}).encode(),
                {"Content-Type": "application/json"},
            )  # fmt: skip
            assert status == 200 and len(answer["predictions"]) == 1


def imported() -> dict[str, set[str]]:
    """Give the modules that the server itself imports from others, each with the packages that may bring it."""
    told = subprocess.run([sys.executable, "-c", LISTED], capture_output=True, text=True, check=True)
    known = packages_distributions()
    found = {name: {str(canonicalize_name(one)) for one in known.get(name, ())} for name in told.stdout.split()}
    return {name: packages for name, packages in found.items() if packages - {"ferryman", "setuptools"}}


def test_the_server_imports_only_what_an_image_holds(bundles: dict[str, Path]) -> None:
    bundle = load_bundle(bundles["table"])
    held = closure(roots_of(bundle), bundle.versions, Target("3.11", "glibc", (2, 36), "amd64"))
    assert {name for name, packages in imported().items() if not packages & set(held)} == set()


def test_neither_an_engine_nor_pictures_are_imported_by_the_server_itself() -> None:
    heavy = {"onnxruntime", "pillow", "opencv-python-headless", "openvino", "onnx", "pycocotools", "scipy", "torch"}
    assert not {name for name, packages in imported().items() if packages & heavy}
