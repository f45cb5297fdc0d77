"""One server for all tests that only ask."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.bundle.making import bundle_affine, bundle_colour, bundle_model, bundle_table, make_zoo
from tests.server.running import Running, running


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    zoo = {
        "in_BOOL": np.array([[True, False]]),
        "in_BYTES": np.array([["a", "ü"]], object),
        **{
            f"in_{name}": np.array([[1, 2]], dtype)
            for name, dtype in {
                "UINT8": np.uint8, "INT32": np.int32, "INT64": np.int64, "UINT64": np.uint64,
                "FP16": np.float16, "FP32": np.float32, "FP64": np.float64,
            }.items()
        },
    }  # fmt: skip
    made = [
        bundle_affine(folder / "affine"),
        bundle_table(folder / "table"),
        bundle_colour(folder / "colour"),
        bundle_model(folder / "zoo", make_zoo(folder / "zoo-model"), {"kind": "tensor"}, [zoo], name="zoo"),
    ]
    return {bundle.manifest.name: bundle.path for bundle in made}


@pytest.fixture(scope="session")
def server(bundles: dict[str, Path]) -> Iterator[Running]:
    with running(list(bundles.values()), max_body_bytes=200_000, receive_s=2) as one:
        yield one
