"""The rendered Deployment under `podman play kube`: a second pod beside the first, and a front, lose no request."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from ferryman.core.bundle import Bundle
from ferryman.core.scratch import user_cache
from ferryman.package.run import package_bundle
from ferryman.package.settings import PackageSettings
from ferryman.targets.landing import land
from tests.chaos.counts import Report
from tests.ports import free_port
from tests.targets.making import target
from tests.targets.rolling import (
    answers,
    is_among,
    program,
    run,
    under_load,
    wait_for,
    wait_for_answers,
    write_versions,
)

pytestmark = [pytest.mark.slow, pytest.mark.tool("podman", "skopeo", "haproxy")]

_GRACE_S = "45"
_FRONT = """\
defaults
    mode tcp
    timeout connect 2s
    timeout client 15m
    timeout server 15m
    timeout check 5s
    retries 3
    option redispatch 1
frontend callers
    bind 127.0.0.1:{port}
    default_backend pods
backend pods
    balance leastconn
    option httpchk GET /v2/health/ready
    http-check expect status 200
    default-server check inter 500ms fall 1 rise 1
    server blue {blue}:8080
    server green {green}:8080
"""


@dataclass(frozen=True)
class Pods:
    """Hold a network of podman with room for two pods behind a front; `images` are by version."""

    folder: Path
    network: str
    addresses: dict[str, str]
    images: dict[str, str]
    bundles: dict[str, Bundle]
    url: str

    def play(self, colour: str, version: str, *words: str) -> Path:
        """Run the Deployment of a version under a colour's name, at the colour's address."""
        section = target(
            "kubernetes", service=f"street-{colour}", form="podman", unready_s=3, drain_s=10, memory_mb=400, replicas=1
        )
        files = section.render(land(self.bundles[version], section, self.images[version]))
        file = self.folder / f"{colour}-{version}.yaml"
        file.write_text(files["pod.yaml"])
        where = ("--network", self.network, "--ip", self.addresses[colour])
        run("podman", "play", "kube", *where, *words, str(file))
        wait_for(lambda: answers(self.direct(colour), version), limit_s=60, words=lambda: self.said(colour))
        wait_for(lambda: is_among(self.url, version), limit_s=20)  # or nobody is left when the other one goes
        return file

    def direct(self, colour: str) -> str:
        return f"http://{self.addresses[colour]}:8080"

    def said(self, colour: str) -> str:
        return run("podman", "logs", f"street-{colour}-pod-0-server", may_fail=True)

    def let_go(self, colour: str, file: Path) -> None:
        """End the server in its own time, and then take the pod away: with it goes the network that it answers over."""
        run("podman", "stop", "--time", _GRACE_S, f"street-{colour}-pod-0-server")
        run("podman", "play", "kube", "--down", str(file))


@pytest.fixture(scope="module")
def pods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pods]:
    folder, name = tmp_path_factory.mktemp("play"), f"ferryman-{uuid4().hex[:8]}"
    bundles = write_versions(folder)
    images = {version: f"localhost/{name}:{version}" for version in bundles}
    subnet = f"10.214.{int(name[-4:], 16) % 250}"
    addresses = {"blue": f"{subnet}.2", "green": f"{subnet}.3"}
    try:
        for version, bundle in bundles.items():
            settings = PackageSettings(tag=images[version], output=folder / f"{version}.oci")
            package_bundle(bundle, settings, cache=user_cache() / "ferryman")
            where = f"oci:{settings.output}:{images[version]}"
            run("skopeo", "copy", "--quiet", where, f"containers-storage:{images[version]}")
        run("podman", "network", "create", "--subnet", f"{subnet}.0/24", name)
        with _front(folder, addresses) as url:
            yield Pods(folder, name, addresses, images, bundles, url)
    finally:
        for colour in addresses:
            run("podman", "pod", "rm", "--force", "--time", "0", f"street-{colour}-pod-0", may_fail=True)
        run("podman", "network", "rm", "--force", name, may_fail=True)
        run("podman", "rmi", "--force", *images.values(), may_fail=True)


@contextmanager
def _front(folder: Path, addresses: dict[str, str]) -> Iterator[str]:
    port, file = free_port(), folder / "haproxy.cfg"
    file.write_text(_FRONT.format(port=port, **addresses))
    with (folder / "front.log").open("wb") as log:
        process = subprocess.Popen([program("haproxy"), "-db", "-f", str(file)], stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_a_second_pod_beside_the_first_takes_over_and_no_request_is_lost(pods: Pods, report: Report) -> None:
    blue = pods.play("blue", "one")
    wait_for(lambda: answers(pods.url, "one"), limit_s=20)
    with under_load(pods.url) as counts:
        wait_for_answers(counts, 50)
        green = pods.play("green", "two")
        pods.let_go("blue", blue)
        assert answers(pods.url, "two")
        blue = pods.play("blue", "one")
        pods.let_go("green", green)
        assert answers(pods.url, "one")
        wait_for_answers(counts, 50)
    counts.tell(report, "podman play kube, two pods behind a front")
    pods.let_go("blue", blue)
    assert counts.is_whole, counts
    assert counts.again == 0
    assert counts.by.keys() == {"one", "two"}


def test_replacing_the_only_pod_loses_requests_and_ends_on_the_new_version(pods: Pods, report: Report) -> None:
    pods.play("blue", "one")
    wait_for(lambda: answers(pods.url, "one"), limit_s=20)
    with under_load(pods.url, patience_s=0.0) as counts:
        wait_for_answers(counts, 50)
        pods.play("blue", "two", "--replace")
        wait_for_answers(counts, 50)
    counts.tell(report, "podman play kube --replace")
    assert counts.lost, "then a front is not needed, and the page says otherwise"
    assert counts.wrong == 0
