"""It runs as a container's first process: no user, no home, no input, nothing to write to but little shared memory."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tests.bundle.making import bundle_model, save
from tests.ports import free_port
from tests.server.platforms import started_by
from tests.server.running import Running, wait_until

NOBODY = 65532  # no line of /etc/passwd has it
BOX = """
mount -t proc proc /proc
mount -t tmpfs -o size={shared_kb}k,mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /var/tmp && mount -o remount,ro,bind /var/tmp
mount -o remount,ro,bind / && mount | grep ' /tmp ' && mount -o remount,ro,bind /tmp
cd / && exec setpriv --pdeathsig KILL --reuid {user} --regid {user} --clear-groups \
  --inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search "$@" <&-
"""


def can_make_a_box() -> bool:
    """Tell whether this user may make namespaces and mounts of its own."""
    if shutil.which("unshare") is None or shutil.which("setpriv") is None:
        return False
    words = ["unshare", "--mount", "--pid", "--fork", "true"]
    return os.getuid() == 0 and subprocess.run(words, capture_output=True, check=False).returncode == 0


boxed = pytest.mark.skipif(not can_make_a_box(), reason="NOT TESTED: no namespaces for this user")


def box(*, shared_kb: int = 65536) -> list[str]:
    """Give the words that run a program as the first process of a bare container."""
    script = BOX.format(shared_kb=shared_kb, user=NOBODY)
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, "box"]


def inside(server: Running) -> int:
    """Give the first process of the box, as it is numbered here."""
    return int(Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()[0])


def below(pid: int) -> list[int]:
    children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*children, *(inner for child in children for inner in below(child))]


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a bundle whose requests and answers are of any size."""
    folder = tmp_path_factory.mktemp("wide")
    model = save(
        folder / "wide.onnx",
        [helper.make_node("Neg", ["values"], ["negated"])],
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, ["batch", "width"])],
        [helper.make_tensor_value_info("negated", TensorProto.FLOAT, ["batch", "width"])],
    )
    item = {"values": np.ones((1, 4), np.float32)}
    for place in (folder, *folder.parents[:2]):
        place.chmod(0o755)
    return bundle_model(folder / "bundle", model, {"kind": "tensor"}, [item], name="wide").path


@pytest.fixture
def contained(wide: Path) -> Iterator[Running]:
    yield from contained_by(wide, box())


def contained_by(bundle: Path, within: Sequence[str]) -> Iterator[Running]:
    port = free_port()
    environment = {
        "FERRYMAN_BUNDLE": str(bundle), "PORT": str(port), "FERRYMAN_ADMIN_PORT": "off", "HOME": "",
        "FERRYMAN_LOG": "json", "FERRYMAN_UNREADY_S": "0.05",
    }  # fmt: skip
    with started_by(environment, port=port, within=within) as server:
        yield server


def negate(server: Running, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Ask with tensors as bytes, both ways."""
    tensor = {
        "name": "values", "shape": values.shape, "datatype": "FP32", "parameters": {"binary_data_size": values.nbytes}
    }  # fmt: skip
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    status, answer, told = server.ask("POST", "/v2/models/wide/infer", head + values.tobytes(), headers)
    assert status == 200, answer
    return np.frombuffer(answer[int(told["inference-header-content-length"]) :], np.float32).reshape(values.shape)


@boxed
def test_it_serves_and_ends_with_code_0_when_it_is_stopped(contained: Running) -> None:
    first = inside(contained)
    status = Path(f"/proc/{first}/status").read_text()
    assert f"Uid:\t{NOBODY}" in status and "\t1\n" in next(line for line in status.splitlines(True) if "NSpid" in line)
    values = np.ones((1, 3), np.float32)
    assert np.array_equal(negate(contained, values), -values)
    os.kill(first, signal.SIGTERM)
    assert contained.process.wait(20) == 0


@boxed
def test_its_own_lines_and_its_access_log_are_json(contained: Running) -> None:
    wait_until(lambda: '"ready: http' in contained.log())
    lines = [json.loads(line) for line in contained.log().splitlines()]
    assert {"time", "level", "message"} <= set(next(line for line in lines if "ready: " in line.get("message", "")))


@boxed
def test_the_first_process_collects_orphans_and_a_lost_worker_is_replaced(contained: Running) -> None:
    first = inside(contained)
    server, zygote, worker = below(first)
    os.kill(zygote, signal.SIGKILL)  # its worker dies with it, and falls to the first process
    wait_until(lambda: state_of(worker) == "" and state_of(zygote) == "")
    wait_until(lambda: contained.ask("GET", "/v2/health/ready")[0] == 200)
    assert state_of(server) in "SR"


@boxed
def test_a_server_that_is_killed_ends_the_container_with_that(contained: Running) -> None:
    os.kill(below(inside(contained))[0], signal.SIGKILL)
    assert contained.process.wait(20) == 128 + signal.SIGKILL


@boxed
def test_tensors_larger_than_shared_memory_are_answered(wide: Path) -> None:
    """Docker gives /dev/shm 64 MB; what the server shares with its workers is no file there."""
    for contained in contained_by(wide, box(shared_kb=64)):
        values = np.random.default_rng(0).random((7, 1_000_000), np.float32)  # 28 MB, and as much back
        assert np.array_equal(negate(contained, values), -values)
        assert contained.ask("GET", "/v2/health/ready")[0] == 200
