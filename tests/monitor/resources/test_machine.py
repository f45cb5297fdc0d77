"""What a machine tells: files as the kernels of such machines have them, and a control group of this one."""

import math
import os
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ferryman.monitor.resources.energy import Energy
from ferryman.monitor.resources.gpu import Gpus
from ferryman.monitor.resources.heat import hottest_c
from ferryman.monitor.resources.machine import Machine, busy_seconds
from ferryman.monitor.resources.throttle import Throttle


def _write(root: Path, told: dict[str, object]) -> None:
    for name, value in told.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{value}\n")


def _package(number: int, joules: float, largest: int = 262143328850) -> dict[str, object]:
    folder = f"sys/class/powercap/intel-rapl:{number}"
    part = f"sys/class/powercap/intel-rapl:{number}:0"
    micro = int(joules * 1e6)
    board = "sys/class/powercap/intel-rapl:9"
    names = {f"{folder}/name": f"package-{number}", f"{part}/name": "core", f"{board}/name": "psys"}
    return {
        **names,
        f"{board}/energy_uj": 7 * micro,
        f"{folder}/energy_uj": micro,
        f"{folder}/max_energy_range_uj": largest,
        f"{part}/energy_uj": micro,
    }


def test_energy_is_of_all_packages_once_and_goes_on_where_a_counter_begins_anew(tmp_path: Path) -> None:
    _write(tmp_path, {**_package(0, 100.0), **_package(1, 260_000.0)})
    energy = Energy(tmp_path)
    assert energy.look() == 0.0
    _write(tmp_path, {**_package(0, 110.0), **_package(1, 1.0)})
    assert energy.look() == pytest.approx(10.0 + 262_143.32885 - 260_000.0 + 1.0)
    assert energy.why == ""


def test_energy_that_cannot_be_read_is_not_known_and_said(tmp_path: Path) -> None:
    energy = Energy(tmp_path)
    assert math.isnan(energy.look())
    assert "doesn't count its energy" in energy.why
    _write(tmp_path, {"sys/class/powercap/intel-rapl:0/name": "package-0"})
    (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").mkdir()  # root may read all files, no folder
    assert math.isnan(energy.look())
    assert "Is a directory" in energy.why


def test_heat_is_seen_when_the_counters_of_any_core_grow(tmp_path: Path) -> None:
    name = "sys/devices/system/cpu/cpu{}/thermal_throttle/core_throttle_count"
    _write(tmp_path, {name.format(0): 7, name.format(1): 0, "sys/class/thermal/thermal_zone0/temp": 91_500})
    throttle = Throttle(tmp_path)
    assert math.isnan(throttle.look().heat), "what was before the first look is no news"
    assert throttle.look().heat == 0.0
    _write(tmp_path, {name.format(1): 2})
    assert [throttle.look().heat for _ in range(7)] == [1.0] * 6 + [0.0]
    assert hottest_c(tmp_path) == 91.5
    assert math.isnan(hottest_c(tmp_path / "nothing"))


@pytest.mark.parametrize(("word", "slowed"), [("0x0", 0.0), ("0x50000", 0.0), ("0x50005", 1.0), ("0x8", 1.0)])
def test_a_raspberry_pi_tells_what_is_now_apart_from_what_was(tmp_path: Path, word: str, slowed: float) -> None:
    _write(tmp_path, {"sys/devices/platform/soc/soc:firmware/get_throttled": word})
    assert Throttle(tmp_path).look().heat == slowed


def test_the_worst_control_group_tells_how_much_of_the_time_a_limit_was_used_up(tmp_path: Path) -> None:
    stat = "usage_usec 1\nnr_periods {}\nnr_throttled {}\nthrottled_usec 5"
    _write(tmp_path, {"proc/self/cgroup": "0::/pod/box", "sys/fs/cgroup/pod/cpu.stat": stat.format(100, 50)})
    _write(tmp_path, {"sys/fs/cgroup/pod/box/cpu.stat": stat.format(10, 0)})
    throttle = Throttle(tmp_path)
    assert math.isnan(throttle.look().quota)
    _write(tmp_path, {"sys/fs/cgroup/pod/cpu.stat": stat.format(120, 55)})
    _write(tmp_path, {"sys/fs/cgroup/pod/box/cpu.stat": stat.format(20, 1)})
    assert throttle.look().quota == pytest.approx(0.25)
    assert throttle.look().quota == 0.0
    assert math.isnan(Throttle(tmp_path / "nothing").look().quota)


_BURN = """\
import sys, time
from ferryman.monitor.resources.throttle import Throttle
throttle = Throttle()
throttle.look()
until = time.monotonic() + 2
while time.monotonic() < until:
    pass
print(throttle.look().quota)
"""


@pytest.fixture
def tenth_of_a_core() -> Iterator[Path]:
    """Give a control group of this machine's own that may use a tenth of a core."""
    group = Path("/sys/fs/cgroup/cpu/ferryman-test-quota")
    try:
        group.mkdir()
        (group / "cpu.cfs_period_us").write_text("100000")
        (group / "cpu.cfs_quota_us").write_text("10000")
    except OSError as error:
        if group.is_dir():
            group.rmdir()
        pytest.skip(f"no control group of version 1 can be made here: {error}")
    yield group
    group.rmdir()


def test_a_limit_that_is_used_up_is_seen_on_this_machine(tenth_of_a_core: Path) -> None:
    def enter() -> None:
        (tenth_of_a_core / "tasks").write_text(str(os.getpid()))

    done = subprocess.run([sys.executable, "-c", _BURN], capture_output=True, text=True, check=True, preexec_fn=enter)
    assert float(done.stdout) > 0.8


def test_without_a_driver_there_are_no_gpus_and_it_is_said_why() -> None:
    pynvml = pytest.importorskip("pynvml")
    gpus = Gpus()
    if gpus.look():
        pytest.skip("this machine has a GPU")
    assert "NVML" in gpus.why
    assert isinstance(pynvml.NVMLError_LibraryNotFound(), pynvml.NVMLError)


class _Error(Exception):
    """Stand for pynvml's own."""


def _nvml(**told: Any) -> types.ModuleType:
    """Give a stand-in of NVML with one GPU: no GPU was at hand, so pynvml's names and units are all that it has."""
    library = types.ModuleType("pynvml")

    def refuse(*_: object) -> None:
        raise _Error("Not Supported")

    names = (
        "MemoryInfo", "UtilizationRates", "Name", "CurrentClocksThrottleReasons", "PowerUsage", "Temperature",
        "TotalEnergyConsumption",
    )  # fmt: skip
    answers = {f"nvmlDeviceGet{name}": refuse for name in names}
    answers |= {name: (lambda *_, value=value: value) for name, value in told.items()}
    vars(library).update(
        answers, NVMLError=_Error, NVML_TEMPERATURE_GPU=0, nvmlInit=lambda: None, nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda number: number,
    )  # fmt: skip
    return library


def test_a_gpu_tells_its_figures_and_what_it_lacks_is_not_known() -> None:
    (gpu,) = Gpus(
        _nvml(
            nvmlDeviceGetMemoryInfo=types.SimpleNamespace(used=3e9, total=8e9), nvmlDeviceGetPowerUsage=70_000,
            nvmlDeviceGetCurrentClocksThrottleReasons=0x20 | 0x4, nvmlDeviceGetTemperature=88,
        )
    ).look()  # fmt: skip
    assert (gpu.used_bytes, gpu.total_bytes, gpu.power_w, gpu.temperature_c, gpu.slowed) == (3e9, 8e9, 70.0, 88.0, 1.0)
    assert math.isnan(gpu.busy)
    assert math.isnan(gpu.joules)
    (calm,) = Gpus(_nvml(nvmlDeviceGetCurrentClocksThrottleReasons=0x1 | 0x4)).look()
    assert calm.slowed == 0.0, "idle, and a power cap that somebody set, are no faults"


def test_versions_share_the_energy_by_their_part_of_the_busy_time(tmp_path: Path) -> None:
    _write(tmp_path, {**_package(0, 0.0), "proc/stat": "cpu 1000 0 0 99999 0 0 0 0 0 0"})
    machine = Machine(tmp_path, tmp_path)
    one, two = ("a", "1"), ("b", "1")
    assert machine.look(0.0, lambda: {one: 5.0, two: 1.0}).joules == 0.0
    busy = 1000 + 10 * os.sysconf("SC_CLK_TCK")
    _write(tmp_path, {**_package(0, 200.0), "proc/stat": f"cpu {busy} 0 0 99999 0 0 0 0 0 0"})
    assert machine.look(5.0, dict).joules == 0.0, "it looks each ten seconds"
    figures = machine.look(10.0, lambda: {one: 9.0, two: 2.0})
    assert figures.joules == pytest.approx(200.0)
    assert figures.model_joules == pytest.approx({one: 80.0, two: 20.0}), "half of the time was others'"
    told = figures.to_json()
    assert told["model_joules"] == [["a", "1", pytest.approx(80.0)], ["b", "1", pytest.approx(20.0)]]
    assert told["temperature_c"] is None
    assert 0 < told["disk_free"] < 1


def test_a_look_at_this_machine_is_cheap_and_its_busy_time_is_true() -> None:
    machine = Machine(Path("/"))
    began_s, spent_s = time.monotonic(), time.thread_time()
    for second in range(0, 100, 10):
        machine.look(float(second), dict)
    assert time.thread_time() - spent_s < 0.1, "ten looks"
    before_s = busy_seconds()
    while time.monotonic() - began_s < 1.0:
        pass
    assert busy_seconds() >= before_s + 0.3
