"""What can't work is said before a port is open, and what is seldom meant is warned of."""

import socket
from pathlib import Path

import pytest

from ferryman.core.runtime import available_cores
from ferryman.server.app import serve
from ferryman.server.control.repository import Repository
from ferryman.server.control.state import State
from ferryman.server.settings import ServerSettings, doubts
from tests.bundle.making import bundle_affine
from tests.cli.running import ferryman
from tests.server.running import refusal, running


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_affine(tmp_path_factory.mktemp("bundle") / "affine").path


def test_an_admin_port_that_is_taken_is_told_with_its_option(bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, words = refusal([bundle], admin_port=taken.getsockname()[1])
    assert code == 2
    assert "the admin's port: can't listen" in words and "--admin-port takes another" in words


def test_one_port_for_both_is_refused(bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code, words = refusal([bundle], port=port, admin_port=port)
    assert (code, f"port {port} is asked for twice" in words, "--admin-port" in words) == (2, True, True)


def test_a_folder_without_bundles_and_a_path_without_anything_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert f"there is no bundle in {tmp_path / 'empty'}" in refusal([tmp_path / "empty"])[1]
    assert f"there is nothing at {tmp_path / 'nothing'}" in refusal([tmp_path / "nothing"])[1]


@pytest.mark.parametrize("folder", ["/proc/nothing", "{tmp}/file/state", "{tmp}/claimed"])
def test_a_folder_for_choices_that_can_not_be_written_stops_the_start(
    bundle: Path, folder: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    other = State(tmp_path / "claimed")
    other.claim()
    code, words = refusal([bundle], state=folder.format(tmp=tmp_path))
    assert (code, "--state DIR" in words) == (2, True), words
    other.close()


def test_a_folder_for_choices_is_taken_at_the_start_and_left_clean(bundle: Path, tmp_path: Path) -> None:
    with running([bundle], state=tmp_path / "new" / "state"):
        assert list((tmp_path / "new" / "state").iterdir()) == []
        assert refusal([bundle], state=tmp_path / "new" / "state")[0] == 2, "another server's"


def test_an_open_port_is_doubted_unless_callers_are_known(tmp_path: Path) -> None:
    assert "anyone who reaches 0.0.0.0 may ask" in doubts(ServerSettings(host="0.0.0.0"))[0]
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost", "unix:/run/x"):
        assert doubts(ServerSettings(host=host)) == []
    for known in (
        ServerSettings("::", keys=tmp_path), ServerSettings("::", jwt=tmp_path),
        ServerSettings("::", client_ca=tmp_path),
    ):  # fmt: skip
        assert doubts(known) == []


def test_an_admin_port_beside_certificates_alone_is_doubted(tmp_path: Path) -> None:
    (found,) = doubts(ServerSettings(client_ca=tmp_path, admin_port=0))
    assert "every process of this machine" in found and "--keys" in found and "--admin-port off" in found
    for settings in (
        ServerSettings(client_ca=tmp_path, admin_port=0, keys=tmp_path),
        ServerSettings(client_ca=tmp_path, admin_port=0, jwt=tmp_path),
        ServerSettings(client_ca=tmp_path, admin_port=None), ServerSettings(admin_port=0),
    ):  # fmt: skip
        assert doubts(settings) == []


def test_more_threads_than_cores_are_doubted() -> None:
    cores = available_cores()
    assert doubts(ServerSettings(threads=cores)) == []
    (found,) = doubts(ServerSettings(threads=cores, instances=2))
    assert found.startswith(f"{2 * cores} threads compute at once, on {cores} cores")


def test_more_calls_at_once_than_cores_are_doubted_with_threads_as_tuned() -> None:
    many = 50 * available_cores()
    for option, settings in (
        ("--instances", ServerSettings(instances=many)), ("--processes", ServerSettings(processes=many))
    ):  # fmt: skip
        (found,) = doubts(settings)
        assert found.startswith(f"{many} threads compute at once") and found.endswith(f"({option} {many})")


def test_doubts_are_in_the_log_and_do_not_stop_the_start(bundle: Path) -> None:
    with running([bundle], threads=available_cores() + 1) as server:
        assert "threads compute at once" in server.log()


@pytest.mark.parametrize(
    "option", ["--max-memory-mb", "--max-worker-mb", "--threads", "--instances", "--processes", "--max-batch"]
)
def test_nothing_at_all_is_no_size_to_serve_with(bundle: Path, option: str) -> None:
    told = ferryman("serve", str(bundle), option, "0")
    assert told.returncode == 2 and f"{option}: 0 is too small" in told.stderr


def test_a_start_that_fails_for_no_known_reason_ends_the_server(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lost(_: Repository) -> None:
        raise RuntimeError("lost its way")

    monkeypatch.setattr(Repository, "start", lost)
    with pytest.raises(RuntimeError, match="lost its way"):
        serve([bundle], ServerSettings(port=0, access_log="off"), lambda url, admin: None)
