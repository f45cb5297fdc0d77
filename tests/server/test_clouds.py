"""The contract of every cloud's containers, clause by clause, against a server started as that cloud starts it."""

import json
import shutil
import socket
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.bundle.making import plain_picture
from tests.ports import free_port
from tests.server.platforms import started_by
from tests.server.running import Running, refusal, running
from tests.server.test_life import with_wrong_golden

SAGEMAKER = "https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html"
VERTEX = "https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements"
AZURE = "https://learn.microsoft.com/azure/machine-learning/how-to-deploy-custom-container"
CLOUD_RUN = "https://cloud.google.com/run/docs/container-contract"
CONTAINER_APPS = "https://learn.microsoft.com/azure/container-apps/health-probes"
BLUE = plain_picture(250, 10, 10)
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Clause:
    """Hold what a cloud asks of a container, where it says so, and how that is seen."""

    cloud: str
    promise: str
    source: str
    check: Callable[[Running], None]


CLAUSES: list[Clause] = []


def clause(cloud: str, promise: str, source: str) -> Callable[[Callable[[Running], None]], Callable[[Running], None]]:
    """Note a check as one clause of a cloud's contract."""

    def note(check: Callable[[Running], None]) -> Callable[[Running], None]:
        CLAUSES.append(Clause(cloud, promise, source, check))
        return check

    return note


def predicted(server: Running, path: str, **more: Any) -> list[Any]:
    body = json.dumps({"instances": [{"b64": b64encode(BLUE).decode()}] * 2, **more}).encode()
    status, answer, _ = server.ask("POST", path, body, JSON)
    assert (status, list(answer)) == (200, ["predictions"]), answer
    found: list[Any] = answer["predictions"]
    return found


@clause("sagemaker", "GET /ping answers 200 with an empty body", SAGEMAKER)
def _(server: Running) -> None:
    status, body, headers = server.ask("GET", "/ping")
    assert (status, body, headers["content-length"]) == (200, b"", "0")


@clause("sagemaker", "GET /ping answers within 2 s", SAGEMAKER)
def _(server: Running) -> None:
    began = time.monotonic()
    server.ask("GET", "/ping")
    assert time.monotonic() - began < 2


@clause("sagemaker", "a socket is accepted within 250 ms", SAGEMAKER)
def _(server: Running) -> None:
    with socket.create_connection(server.host_and_port, timeout=0.25):
        pass


@clause("sagemaker", "POST /invocations gives the request's bytes to the model: a picture", SAGEMAKER)
def _(server: Running) -> None:
    for content_type in ("image/png", "application/x-image", "application/octet-stream"):
        status, answer, _ = server.ask("POST", "/invocations", BLUE, {"Content-Type": content_type})
        assert (status, answer["answers"][0]["labels"][0]) == (200, "blue")


@clause("sagemaker", "POST /invocations takes application/json: instances, and V2's own tensors", SAGEMAKER)
def _(server: Running) -> None:
    assert predicted(server, "/invocations")[1]["labels"][0] == "blue"
    assert server.ask("POST", "/invocations", b"{}", JSON)[0] == 400


@clause("sagemaker", "headers that the platform adds are ignored", SAGEMAKER)
def _(server: Running) -> None:
    headers = {f"X-Amzn-SageMaker-{name}": "trace=1" for name in ("Custom-Attributes", "Request-Id", "Session-Id")}
    headers |= {"Accept": "application/json", "Content-Type": "image/png"}
    assert server.ask("POST", "/invocations", BLUE, headers)[0] == 200


@clause("sagemaker", "the same gate, limits and figures as under V2's own address", SAGEMAKER)
def _(server: Running) -> None:
    assert server.ask("POST", "/invocations", bytes(40_000_000), {"Content-Type": "image/png"})[0] == 413
    assert server.ask("GET", "/invocations")[0] == 405
    assert b'ferryman_requests_total{model="colour"' in server.ask("GET", "/metrics")[1]


@clause("sagemaker", "the API's own description tells the addresses", SAGEMAKER)
def _(server: Running) -> None:
    paths = server.ask("GET", "/openapi.json")[1]["paths"]
    assert "get" in paths["/ping"] and "post" in paths["/invocations"]


@clause("vertex", "it listens on AIP_HTTP_PORT, which goes before PORT", VERTEX)
def _(server: Running) -> None:
    assert server.ask("GET", "/v2/health/live")[0] == 200


@clause("vertex", "GET at AIP_HEALTH_ROUTE answers 200", VERTEX)
def _(server: Running) -> None:
    assert server.ask("GET", "/health")[0] == 200


@clause("vertex", "POST at AIP_PREDICT_ROUTE: {instances, parameters} gives as many predictions", VERTEX)
def _(server: Running) -> None:
    assert [found["labels"][0] for found in predicted(server, "/predict", parameters={})] == ["blue", "blue"]


@clause("vertex", "the answer is JSON and no larger than what was asked for: predictions alone", VERTEX)
def _(server: Running) -> None:
    body = json.dumps({"instances": [{"image_bytes": {"b64": b64encode(BLUE).decode()}}]}).encode()
    status, answer, headers = server.ask("POST", "/predict", body, JSON)
    assert (status, len(answer["predictions"]), headers["content-type"]) == (200, 1, "application/json")


@clause("vertex", "raw bodies reach the model, too (rawPredict)", VERTEX)
def _(server: Running) -> None:
    assert server.ask("POST", "/predict", BLUE, {"Content-Type": "image/png"})[0] == 200


@clause("vertex defaults", "without routes: /v1/endpoints/ID/deployedModels/ID, and :predict", VERTEX)
def _(server: Running) -> None:
    assert server.ask("GET", "/v1/endpoints/17/deployedModels/4")[0] == 200
    assert len(predicted(server, "/v1/endpoints/17/deployedModels/4:predict")) == 2


@clause("azureml", "the model that is mounted at AZUREML_MODEL_DIR is served", AZURE)
def _(server: Running) -> None:
    assert server.ask("GET", "/v2/models/colour")[0] == 200


@clause("azureml", "liveness, readiness and scoring routes are paths of one port", AZURE)
def _(server: Running) -> None:
    assert [server.ask("GET", path)[0] for path in ("/v2/health/live", "/v2/health/ready")] == [200, 200]
    assert server.ask("POST", "/v2/models/colour/infer", BLUE, {"Content-Type": "image/png"})[0] == 200


@clause("azureml", "POST /score, as scoring scripts answer", AZURE)
def _(server: Running) -> None:
    assert len(predicted(server, "/score")) == 2


@clause("cloud run", "it listens on PORT, on all addresses", CLOUD_RUN)
def _(server: Running) -> None:
    with socket.create_connection((socket.gethostbyname(socket.gethostname()), server.host_and_port[1]), timeout=5):
        pass


@clause("cloud run", "HTTP/2 end to end is cleartext (h2c): gRPC", CLOUD_RUN)
def _(server: Running) -> None:
    with grpc.insecure_channel(server.address) as channel:
        check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")  # its types want serializers
        assert check(b"", timeout=10) == b"\x08\x01"


@clause("container apps", "startup, liveness and readiness probes get 200 to 399 where all is well", CONTAINER_APPS)
def _(server: Running) -> None:
    assert [server.ask("GET", path)[0] for path in ("/v2/health/live", "/v2/health/ready", "/ping")] == [200] * 3


def environments(bundle: Path, mount: Path, port: int) -> dict[str, dict[str, str]]:
    """Give what each cloud tells a container."""
    own = {"FERRYMAN_BUNDLE": str(bundle), "FERRYMAN_ADMIN_PORT": "off", "FERRYMAN_HOST": "0.0.0.0"}
    vertex = {**own, "AIP_HTTP_PORT": str(port), "PORT": "1", "AIP_MODE": "PREDICTION", "AIP_STORAGE_URI": ""}
    named = {"AIP_HEALTH_ROUTE": "/health", "AIP_PREDICT_ROUTE": "/predict"}
    return {
        "sagemaker": {**own, "PORT": str(port), "SAGEMAKER_BIND_TO_PORT": str(port)},
        "vertex": {**vertex, **named},
        "vertex defaults": {**vertex, "AIP_ENDPOINT_ID": "17", "AIP_DEPLOYED_MODEL_ID": "4"},
        "azureml": {**own, "FERRYMAN_BUNDLE": "/nothing", "PORT": str(port), "AZUREML_MODEL_DIR": str(mount)},
        "cloud run": {**own, "PORT": str(port), "K_SERVICE": "street", "K_REVISION": "1", "K_CONFIGURATION": "street"},
        "container apps": {**own, "PORT": str(port), "CONTAINER_APP_NAME": "street"},
    }


Start = Callable[[str], Running]


@pytest.fixture(scope="module")
def start(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    mount = tmp_path_factory.mktemp("models")
    shutil.copytree(bundles["colour"], mount / "colour" / "1")
    running_now: dict[str, Running] = {}
    with ExitStack() as stack:

        def started(cloud: str) -> Running:
            if cloud not in running_now:
                port = free_port()
                environment = environments(bundles["colour"], mount, port)[cloud]
                running_now[cloud] = stack.enter_context(started_by(environment, port=port))
            return running_now[cloud]

        yield started


@pytest.mark.parametrize("one", CLAUSES, ids=[f"{one.cloud}: {one.promise}" for one in CLAUSES])
def test_a_clause_holds(one: Clause, start: Start) -> None:
    one.check(start(one.cloud))


@pytest.mark.parametrize("cloud", ["sagemaker", "cloud run"])
def test_sigterm_ends_it_with_code_0_in_time(cloud: str, bundles: dict[str, Path], tmp_path: Path) -> None:
    port = free_port()
    with started_by(environments(bundles["colour"], tmp_path, port)[cloud], port=port) as server:
        assert server.stop(timeout_s=10) == 0  # SageMaker's SIGKILL comes after 30 s, Cloud Run's after 10 s


def test_a_server_that_is_not_ready_says_503_with_an_empty_body(tmp_path: Path) -> None:
    with running([with_wrong_golden(tmp_path).path], is_ready=False) as server:
        assert server.ask("GET", "/ping")[:2] == (503, b"")
        assert server.ask("POST", "/invocations", b"{}", JSON)[0] == 503


def test_where_several_models_are_served_the_clouds_address_names_none(server: Running) -> None:
    status, answer, _ = server.ask("POST", "/invocations", b"{}", JSON)
    assert status == 404 and "4 models are served here" in answer["error"]
    assert "/v2/models/MODEL/infer" in answer["error"]


def test_without_vertex_there_is_no_route_of_its(server: Running) -> None:
    assert [server.ask("GET", path)[0] for path in ("/health", "/predict", "/v1/endpoints/17/deployedModels/4")] == [
        404
    ] * 3


def test_a_route_that_is_no_path_is_refused(bundles: dict[str, Path]) -> None:
    code, words = refusal([bundles["colour"]], infer_route="predict")
    assert code == 2 and "'predict' is no path" in words
    code, words = refusal([bundles["colour"]], health_route="/predict", infer_route="/predict")
    assert code == 2 and "choose two paths" in words
    code, words = refusal([bundles["colour"]], infer_route="/ping")
    assert code == 2 and "'/ping' can't tell of health and answer" in words
