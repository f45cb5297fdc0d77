"""The contract of every cloud's containers, clause by clause, against the demo's image run as that cloud runs it.

No cloud was asked: each clause is what a cloud's own page says (SOURCES), tried with podman.
"""

import json
import tarfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from ferryman.bundle.read import load_bundle
from ferryman.bundle.write import write_bundle
from ferryman.core.bundle import Bundle
from ferryman.oci.image import children, read_manifest
from ferryman.oci.layout import Layout
from ferryman.package.settings import Packaged
from tests.conftest import TABLES
from tests.package.clouds import Clause, Cloud, Contract, Seen, started, table, unpacked
from tests.package.demo import beyond

pytestmark = [pytest.mark.tool("podman", "skopeo", "apt-get"), pytest.mark.slow]

SAGEMAKER = "https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html"
VERTEX = "https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements"
AZURE = "https://learn.microsoft.com/azure/machine-learning/how-to-deploy-custom-container"
CLOUD_RUN = "https://cloud.google.com/run/docs/container-contract"
CLOUD_RUN_STOP = "https://cloud.google.com/blog/topics/developers-practitioners/graceful-shutdowns-cloud-run-deep-dive"
PROBES = "https://learn.microsoft.com/azure/container-apps/health-probes"
VARIABLES = "https://learn.microsoft.com/azure/container-apps/environment-variables"
LIFECYCLE = "https://learn.microsoft.com/azure/container-apps/application-lifecycle-management"
SOURCES = {
    "S1": SAGEMAKER, "V1": VERTEX, "A1": AZURE, "R1": CLOUD_RUN, "R2": CLOUD_RUN_STOP, "C1": PROBES, "C2": VARIABLES,
    "C3": LIFECYCLE,
}  # fmt: skip
JPEG, JSON = "image/jpeg", "application/json"
AZURE_MODEL = "/var/azureml-app/azureml-models/factory/1"
CONTRACT = Contract()
clause = CONTRACT.clause


def clouds(mount: Path) -> dict[str, Cloud]:
    """Say how each cloud starts a container; `mount` holds a model that goes before the one in the image."""
    model = ("--volume", f"{mount}:/opt/ml/model:ro")
    vertex = {"AIP_HTTP_PORT": "8501", "AIP_MODE": "PREDICTION", "AIP_STORAGE_URI": "", "AIP_VERSION_NAME": "4"}
    routes = {"AIP_HEALTH_ROUTE": "/health", "AIP_PREDICT_ROUTE": "/predict"}
    ids = {"AIP_ENDPOINT_ID": "17", "AIP_DEPLOYED_MODEL_ID": "4"}
    own = "/v1/endpoints/17/deployedModels/4"
    run = {"PORT": "9090", "K_SERVICE": "factory", "K_REVISION": "factory-1", "K_CONFIGURATION": "factory"}
    apps = {f"CONTAINER_APP_{name}": "factory" for name in ("NAME", "REVISION", "REPLICA_NAME", "HOSTNAME")}
    small = ("--memory", "512m", "--memory-swap", "512m", "--cpus", "1")
    in_memory = ("--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp")
    ready = "/v2/health/ready"
    listed = (
        Cloud("sagemaker", "/ping", "/invocations", 30, ("--user", "0:0", *model), args=("serve",)),
        Cloud("sagemaker, our user", "/ping", "/invocations", 30, model, args=("serve",)),
        Cloud("vertex", "/health", "/predict", 30, ("--user", "1337:1337"), {**vertex, **routes}, port=8501),
        Cloud("vertex, its routes", own, f"{own}:predict", 30, (), {**vertex, **ids}, port=8501),
        Cloud(
            "azureml",
            ready,
            "/score",
            30,
            ("--volume", f"{mount}:{AZURE_MODEL}:ro"),
            {"AZUREML_MODEL_DIR": AZURE_MODEL},
        ),
        Cloud("cloud run", ready, "/v2/models/factory/infer", 10, (*in_memory, *small), run, port=9090),
        Cloud("container apps", ready, "/v2/models/factory/infer", 30, small, apps),
    )
    return {cloud.name: cloud for cloud in listed}


def picture(seen: Seen) -> bytes:
    item = seen.bundle.golden[0].item
    assert isinstance(item, bytes)
    return item


def instances(seen: Seen) -> bytes:
    encoded = [
        {"b64": b64encode(golden.item).decode()} for golden in seen.bundle.golden if isinstance(golden.item, bytes)
    ]
    return json.dumps({"instances": encoded, "parameters": {}}).encode()


def predicts(seen: Seen, path: str) -> str:
    status, answer, headers = seen.ask("POST", path, instances(seen), Content_Type=JSON)
    assert (status, list(answer), headers["content-type"]) == (200, ["predictions"], JSON), answer
    assert beyond(seen.bundle, answer["predictions"]) == {}
    return f"{len(answer['predictions'])} of {len(seen.bundle.golden)}, as verified"


def takes_pictures(seen: Seen, path: str, *content_types: str) -> str:
    for content_type in content_types:
        answers = []
        for golden in seen.bundle.golden:
            assert isinstance(golden.item, bytes)
            status, answer, _ = seen.ask("POST", path, golden.item, Content_Type=content_type)
            assert status == 200, answer
            answers += answer["answers"]
        assert beyond(seen.bundle, answers) == {}
    return f"{len(content_types)} kinds, as verified"


def loses_nothing(seen: Seen) -> str:
    sent, took_s, exit_code = seen.stop_under_load(picture(seen), JPEG)
    assert (sent.lost, sent.failed, exit_code) == (0, 0, 0), sent
    assert sent.answered > 0 and sent.after_signal > 0, sent
    assert took_s < seen.cloud.grace_s
    return f"{sent.sent} sent, {sent.answered} answered, {sent.refused} refused, 0 lost; 0 after {took_s:.1f} s"


def is_ready_late(seen: Seen) -> str:
    """See that what was unready answers right at once after its first 200, well within the clouds' 4 minutes."""
    assert seen.before and seen.ready_s < 60
    takes_pictures(seen, seen.cloud.infer, JPEG)
    before = sorted({str(status or "closed") for status in seen.before})
    return f"after {seen.ready_s:.1f} s; {' and '.join(before)} before"


for name in ("sagemaker", "sagemaker, our user"):

    @clause(name, "IMAGE serve: /ping is 200 within 4 minutes, and not before the model is loaded", SAGEMAKER)
    def _(seen: Seen) -> str:
        return is_ready_late(seen)

    @clause(name, "it runs as the user that the platform takes", SAGEMAKER)
    def _(seen: Seen) -> str:
        assert seen.user() == (65532 if "our" in seen.cloud.name else 0)
        return f"user {seen.user()}"

    @clause(name, "the model.tar.gz that is unpacked in /opt/ml/model is what is served", SAGEMAKER)
    def _(seen: Seen) -> str:
        assert seen.version() == seen.bundle.manifest.digest[:12]
        return f"version {seen.version()}, not the image's own"

    @clause(name, "GET /ping: 200 without a body within 2 s", SAGEMAKER)
    def _(seen: Seen) -> str:
        began = time.monotonic()
        status, body, headers = seen.ask("GET", "/ping")
        took_s = time.monotonic() - began
        assert (status, body, headers["content-length"]) == (200, b"", "0")
        assert took_s < 2
        return f"200, 0 bytes, {took_s * 1e3:.0f} ms"

    @clause(name, "a socket is accepted within 250 ms", SAGEMAKER)
    def _(seen: Seen) -> str:
        longest_s = max(seen.connect_s() for _ in range(50))
        assert longest_s < 0.25
        return f"{longest_s * 1e3:.1f} ms, the longest of 50"

    @clause(name, "POST /invocations: the request's bytes, whatever the platform's headers say", SAGEMAKER)
    def _(seen: Seen) -> str:
        trace = {"X_Amzn_SageMaker_Custom_Attributes": "trace=1", "X_Amzn_SageMaker_Target_Model": "a"}
        assert seen.ask("POST", "/invocations", picture(seen), Content_Type=JPEG, **trace)[0] == 200
        return takes_pictures(seen, "/invocations", JPEG, "application/x-image", "application/octet-stream")

    @clause(name, "POST /invocations: application/json", SAGEMAKER)
    def _(seen: Seen) -> str:
        return predicts(seen, "/invocations")

    @clause(name, "SIGTERM under load: it ends within 30 s, and nothing is lost", SAGEMAKER)
    def _(seen: Seen) -> str:
        return loses_nothing(seen)


for name in ("vertex", "vertex, its routes"):

    @clause(name, "it listens at AIP_HTTP_PORT, on all addresses: TCP liveness", VERTEX)
    def _(seen: Seen) -> str:
        assert seen.container.inside[1] == 8501
        return f"port 8501, {seen.connect_s() * 1e3:.1f} ms"

    @clause(name, "GET at the health route: 200 once it is loaded", VERTEX)
    def _(seen: Seen) -> str:
        return is_ready_late(seen)

    @clause(name, "POST at the predict route: {instances, parameters} gives {predictions}", VERTEX)
    def _(seen: Seen) -> str:
        return predicts(seen, seen.cloud.infer)

    @clause(name, "raw bodies reach the model, too", VERTEX)
    def _(seen: Seen) -> str:
        return takes_pictures(seen, seen.cloud.infer, JPEG)

    @clause(name, "it needs no user of its own", VERTEX)
    def _(seen: Seen) -> str:
        assert seen.user() == (65532 if "routes" in seen.cloud.name else 1337)
        return f"user {seen.user()}"


@clause("azureml", "the model that is mounted at AZUREML_MODEL_DIR is what is served", AZURE)
def _(seen: Seen) -> str:
    assert seen.version() == seen.bundle.manifest.digest[:12]
    return f"version {seen.version()}, not the image's own"


@clause("azureml", "readiness route: 200 only after the model is loaded", AZURE)
def _(seen: Seen) -> str:
    return is_ready_late(seen)


@clause("azureml", "liveness and readiness routes are paths of the scoring port", AZURE)
def _(seen: Seen) -> str:
    assert [seen.ask("GET", path)[0] for path in ("/v2/health/live", "/v2/health/ready")] == [200, 200]
    return "200, 200"


@clause("azureml", "scoring route: POST /score", AZURE)
def _(seen: Seen) -> str:
    return predicts(seen, "/score")


@clause("cloud run", "it listens at PORT (9090), on all addresses, without TLS", CLOUD_RUN)
def _(seen: Seen) -> str:
    assert seen.container.inside[1] == 9090
    return takes_pictures(seen, seen.cloud.infer, JPEG)


@clause("cloud run", "it starts within 4 minutes", CLOUD_RUN)
def _(seen: Seen) -> str:
    return is_ready_late(seen)


@clause("cloud run", "nothing but memory can be written, and it is not used up", CLOUD_RUN)
def _(seen: Seen) -> str:
    assert seen.container.changed_files() == []
    assert not seen.container.state().is_out_of_memory
    return "nothing was written, 512 MiB and 1 CPU do"


@clause("cloud run", "HTTP/2 end to end is cleartext (h2c): gRPC", CLOUD_RUN)
def _(seen: Seen) -> str:
    with grpc.insecure_channel(f"127.0.0.1:{seen.container.port}") as channel:
        check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")  # its types want serializers
        assert check(b"", timeout=10) == b"\x08\x01"
    return "grpc.health.v1: SERVING"


@clause("cloud run", "SIGTERM under load: it ends within 10 s, and nothing is lost", CLOUD_RUN_STOP)
def _(seen: Seen) -> str:
    return loses_nothing(seen)


@clause("container apps", "CONTAINER_APP_* are set, and disturb nothing", VARIABLES)
def _(seen: Seen) -> str:
    return is_ready_late(seen)


@clause("container apps", "startup, liveness and readiness probes: 200 to 399", PROBES)
def _(seen: Seen) -> str:
    found = [seen.ask("GET", path)[0] for path in ("/v2/health/live", "/v2/health/ready")]
    assert all(200 <= status < 400 for status in found)
    return str(found)


@clause("container apps", "TCP probes and the ingress reach targetPort 8080", PROBES)
def _(seen: Seen) -> str:
    assert seen.container.inside[1] == 8080
    return f"{seen.connect_s() * 1e3:.1f} ms; {takes_pictures(seen, seen.cloud.infer, JPEG)}"


@clause("container apps", "SIGTERM under load: it ends within 30 s, and nothing is lost", LIFECYCLE)
def _(seen: Seen) -> str:
    return loses_nothing(seen)


@pytest.fixture(scope="module")
def mount(demo: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder where a platform has unpacked a model.tar.gz: another bundle than the image's own."""
    folder = tmp_path_factory.mktemp("model")
    other = another(demo, folder / "other")
    with tarfile.open(folder / "model.tar.gz", "w:gz") as tar:
        tar.add(other.path, arcname="factory")
    return unpacked(folder / "model.tar.gz", folder / "unpacked")


def another(bundle: Bundle, folder: Path, *, is_wrong: bool = False) -> Bundle:
    """Write the bundle once more with one golden sample; a wrong one expects another picture's answer."""
    first, second = bundle.golden[:2]
    golden = [replace(first, answer=second.answer) if is_wrong else first]
    return write_bundle(
        folder, deployment=bundle.deployment, artifact=bundle.artifact, proof=bundle.proof, golden=golden,
        tolerance=bundle.tolerance, baseline=bundle.baseline, versions=bundle.versions,
    )  # fmt: skip


Start = Callable[[str], Seen]


@pytest.fixture(scope="module")
def start(loaded_demo: str, demo: Bundle, mount: Path) -> Iterator[Start]:
    """Have one cloud's container at a time: the clauses come cloud by cloud."""
    other = load_bundle(mount / "factory")
    with ExitStack() as stack:
        running: dict[str, Seen] = {}

        def give(name: str) -> Seen:
            if name not in running:
                stack.close()
                running.clear()
                cloud = clouds(mount)[name]
                served = other if any(str(mount) in word for word in cloud.words) else demo
                running[name] = stack.enter_context(started(cloud, loaded_demo, served))
            return running[name]

        yield give


@pytest.fixture(scope="module")
def rows(request: pytest.FixtureRequest) -> Iterator[dict[Clause, str]]:
    """Collect what was seen, and show it at the end of the run."""
    found: dict[Clause, str] = {}
    yield found
    request.config.stash[TABLES]["the clouds' containers"] = table(found, SOURCES)


@pytest.mark.parametrize("one", CONTRACT, ids=[f"{one.cloud}: {one.promise}" for one in CONTRACT])
def test_a_clause_holds(one: Clause, start: Start, rows: dict[Clause, str]) -> None:
    rows[one] = ""
    rows[one] = one.check(start(one.cloud))


@pytest.mark.parametrize("name", ["sagemaker", "azureml"])
def test_a_mounted_model_that_answers_wrong_is_alive_and_never_ready(
    name: str, loaded_demo: str, demo: Bundle, tmp_path: Path
) -> None:
    folder = tmp_path / "mounted"
    folder.mkdir(mode=0o755)
    wrong = another(demo, folder / "factory", is_wrong=True)
    cloud = clouds(folder)[name]
    with started(cloud, loaded_demo, wrong, until=503) as seen:
        while "golden" not in (said := seen.container.logs(40)):
            assert seen.container.state().is_running, said
        assert seen.ask("GET", cloud.health)[0] == 503
        assert seen.ask("GET", "/v2/health/live")[0] == 200
        assert seen.ask("POST", cloud.infer, picture(seen), Content_Type=JPEG)[0] == 503


def test_the_index_of_several_machines_holds_linux_amd64(demo_image: Packaged) -> None:
    assert demo_image.output is not None
    layout = Layout.open(demo_image.output)
    index = read_manifest(layout.blobs, layout.find())
    assert [str(child.platform) for child in children(index, origin="index")] == ["linux/amd64", "linux/arm64"]
