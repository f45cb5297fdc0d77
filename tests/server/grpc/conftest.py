from collections.abc import Iterator
from typing import Any

import pytest

from tests.server.grpc.serving import Running, serving


@pytest.fixture(scope="package")
def server() -> Iterator[Running]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[Any]:  # tritonclient has no types
    triton = pytest.importorskip("tritonclient.grpc")
    with triton.InferenceServerClient(server.address) as client:
        yield client


@pytest.fixture(scope="module")
def channel(server: Running) -> Iterator[Any]:  # the stubs know no calls of plain bytes
    grpc = pytest.importorskip("grpc")
    with grpc.insecure_channel(server.address) as channel:
        yield channel
