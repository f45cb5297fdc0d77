from collections.abc import Iterator

import pytest

from tests.server.grpc.serving import Running, serving


@pytest.fixture(scope="package")
def server() -> Iterator[Running]:
    with serving() as running:
        yield running
