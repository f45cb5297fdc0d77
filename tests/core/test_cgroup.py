import os
from pathlib import Path

import pytest

from ferryman.core.cgroup import cpu_quota, memory_limit_bytes, whole_cores
from ferryman.core.runtime import available_cores


def lay(root: Path, files: dict[str, str]) -> Path:
    """Write a machine's files."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V1_GROUPS = "12:memory:/docker/abc\n5:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2.5),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "150000 100000\n"}, 1.5),  # its parent's
        ({
            "proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "300000 100000\n",
            "sys/fs/cgroup/a/b/cpu.max": "max 100000\n", "sys/fs/cgroup/cpu.max": "200000 100000",
        }, 2.0),
        ({
            "proc/self/cgroup": V1_GROUPS, "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": "100000\n",
        }, 0.5),
        ({  # the host's path, and only the container's group mounted
            "proc/self/cgroup": V1_GROUPS, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "400000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        }, 4.0),
        ({
            "proc/self/cgroup": V1_GROUPS, "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        }, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "what is this\n"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_the_quota_is_the_smallest_of_the_group_and_those_above_it(
    tmp_path: Path, files: dict[str, str], cores: float | None
) -> None:
    assert cpu_quota(lay(tmp_path, files)) == cores


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, None),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "1048576\n"}, 1048576),
        ({"proc/self/cgroup": V1_GROUPS, "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ({"proc/self/cgroup": V1_GROUPS, "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "4096\n"}, 4096),
        ({}, None),
    ],
)
def test_the_memory_limit_is_the_smallest(tmp_path: Path, files: dict[str, str], limit: int | None) -> None:
    assert memory_limit_bytes(lay(tmp_path, files)) == limit


@pytest.mark.parametrize(("quota", "cores"), [(0.25, 1), (1.0, 1), (1.5, 2), (2.0, 2), (7.01, 8)])
def test_part_of_a_core_takes_a_thread(quota: float, cores: int) -> None:
    assert whole_cores(quota) == cores


def test_this_machine_has_a_core_and_no_more_than_it_shows() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
