"""A real docker compose changes the version under load, and nobody who calls notices."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ferryman.core.bundle import Bundle
from ferryman.core.progress import silent
from ferryman.core.scratch import user_cache
from ferryman.package.run import package_bundle
from ferryman.package.settings import PackageSettings
from ferryman.targets.compose import Compose
from ferryman.targets.landing import land
from tests.chaos.counts import Report
from tests.targets.docker_host import DockerHost, docker_host
from tests.targets.front import write_front
from tests.targets.making import target
from tests.targets.rolling import answers, under_load, wait_for_answers, write_versions

pytestmark = [pytest.mark.slow, pytest.mark.tool("dockerd", "docker", "docker-compose", "haproxy", "nsenter")]

_FRONT = "localhost/front:1"


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    return write_versions(tmp_path_factory.mktemp("versions"))


@pytest.fixture(scope="module")
def host(versions: dict[str, Bundle], tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerHost]:
    folder = tmp_path_factory.mktemp("docker")
    with docker_host(folder) as docker:
        for name, bundle in versions.items():
            file = folder / f"{name}.tar"
            settings = PackageSettings(tag=f"localhost/street:{name}", output=file)
            package_bundle(bundle, settings, cache=user_cache() / "ferryman")
            docker("load", "-i", str(file))
        docker("import", str(write_front(folder / "front.tar")), _FRONT)
        yield docker


def test_a_new_version_and_the_old_one_again_come_in_and_no_request_is_lost(
    host: DockerHost, versions: dict[str, Bundle], tmp_path: Path, report: Report
) -> None:
    compose: Compose = target(
        "compose", address=f"{host.address}:8080", host=host.docker, front=_FRONT, replicas=2, folder=str(tmp_path),
        memory_mb=400, cpus=1.0, unready_s=2, drain_s=10,
    )  # fmt: skip
    url = f"http://{host.address}:8080"

    def apply(name: str) -> set[str]:
        landing = land(versions[name], compose, f"localhost/street:{name}")
        return {change.move for change in compose.apply(landing, dry_run=False, progress=silent)}

    try:
        assert apply("one") == {"create"}
        assert apply("one") == {"keep"}
        with under_load(url) as counts:
            wait_for_answers(counts, 50)
            assert "change" in apply("two")
            assert answers(url, "two")
            assert "change" in apply("one")
            assert answers(url, "one")
            wait_for_answers(counts, 50)
        counts.tell(report, "compose")
        assert counts.is_whole, counts
        assert counts.by.keys() == {"one", "two"}
        assert counts.again == 0, "the front let a caller in where nobody answers"
        assert compose.status("affine").ready == 2
        # An apply that was broken off once the new copies answered.
        compose._compose("affine", "up", "--detach", "--no-deps", "--no-recreate", "--scale", "server=4", "server")
        assert compose.status("affine").wanted == 4
        assert "change" in apply("one")
        assert compose.status("affine").wanted == 2
        assert apply("one") == {"keep"}
    finally:
        (tmp_path / "affine").mkdir(exist_ok=True)
        (tmp_path / "affine" / "keys.json").write_text("theirs")
        compose.remove("affine", dry_run=False, progress=silent)
    assert [file.name for file in (tmp_path / "affine").iterdir()] == ["keys.json"], "what isn't ours stays"
    assert host("ps", "--all", "--quiet") == ""
