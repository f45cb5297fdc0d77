"""A caller who may use some models only is told of those only, over HTTP and gRPC."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest

from ferryman.server.data.grpc.messages import INFERENCE, message
from tests.server.running import Running, read_answer, running
from tests.server.test_tls_and_keys import written_keys

INDEX = "/v2/repository/index"


@dataclass(frozen=True)
class Limited:
    """Hold a server of several models, and keys: `tables` is limited to `tab*`, `web` is not."""

    server: Running
    tokens: Mapping[str, str]

    def ask(self, bearer: str, method: str, path: str, *, admin: bool = False) -> tuple[int, Any]:
        address = urlsplit(self.server.admin_url).netloc if admin else self.server.address
        connection = HTTPConnection(address, timeout=20)
        try:
            body = b"{}" if method == "POST" else None
            connection.request(method, path, body, {"Authorization": f"Bearer {self.tokens[bearer]}"})
            return read_answer(connection.getresponse())[:2]
        finally:
            connection.close()

    def call(self, bearer: str, name: str, **fields: str) -> Any:  # a response
        kinds = message(f"inference.{name}Request"), message(f"inference.{name}Response")
        with grpc.insecure_channel(self.server.address) as channel:
            method: Any = channel.unary_unary(  # the stubs know no calls of plain messages
                f"/{INFERENCE}/{name}", kinds[0].SerializeToString, kinds[1].FromString
            )
            return method(kinds[0](**fields), timeout=20, metadata=(("x-api-key", self.tokens[bearer]),))


@pytest.fixture(scope="module")
def limited(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    keys = tmp_path_factory.mktemp("limited") / "keys.json"
    tokens = written_keys(keys)
    with running([bundles["affine"], bundles["table"]], keys=keys, admin_port=0) as server:
        yield Limited(server, tokens)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("bearer", "names"), [("tables", {"table"}), ("web", {"affine", "table"})])
def test_the_index_names_the_models_of_the_caller(limited: Limited, bearer: str, names: set[str], method: str) -> None:
    status, index = limited.ask(bearer, method, INDEX)
    assert (status, {row["name"] for row in index}) == (200, names)
    assert {row["name"] for row in limited.ask(bearer, "POST", INDEX, admin=True)[1]} == names
    assert {row.name for row in limited.call(bearer, "RepositoryIndex").models} == names
    assert {row.name for row in limited.call(bearer, "ModelStatistics").model_stats} == names


def test_the_description_is_of_the_caller_s_models(limited: Limited) -> None:
    status, description = limited.ask("tables", "GET", "/openapi.json")
    assert status == 200 and "affine" not in json.dumps(description)
    assert "/v2/models/affine/infer" in limited.ask("web", "GET", "/openapi.json")[1]["paths"]


def test_the_figures_are_for_those_who_may_use_all_models(limited: Limited) -> None:
    status, answer = limited.ask("tables", "GET", "/metrics")
    assert (status, answer["error"].partition(";")[0]) == (
        403, "key:tables may not read the figures: they are of all models",
    )  # fmt: skip
    assert limited.ask("tables", "GET", "/metrics", admin=True)[0] == 403
    assert limited.ask("web", "GET", "/metrics")[0] == 200


def test_a_name_that_is_not_there_does_not_bring_those_that_are(limited: Limited) -> None:
    status, answer = limited.ask("tables", "POST", "/v2/models/tabby/infer")
    told = "no model is called 'tabby'; the repository's index lists those that you may use"
    assert (status, answer) == (404, {"error": told})
    with pytest.raises(grpc.RpcError) as caught:
        limited.call("tables", "ModelInfer", model_name="tabby")
    assert "affine" not in str(caught.value) and "no model is called 'tabby'" in str(caught.value)
    with pytest.raises(grpc.RpcError) as caught:
        limited.call("tables", "ModelInfer")
    assert "affine" not in str(caught.value) and "names no model" in str(caught.value)
