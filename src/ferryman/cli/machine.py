"""Look at the machine: processor, memory, disk, limits of the container."""

import os
import platform
import shutil
from pathlib import Path

from ferryman.core.artifact import files_of

_FEATURES = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_int8",
    "asimd",
    "asimddp",
    "i8mm",
    "bf16",
)


def describe_cpu() -> str:
    """Give the processor's name and those of its instructions that matter to inference."""
    text = _read(Path("/proc/cpuinfo"))
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    named = {name.strip(): value.strip() for name, value in fields.items()}
    flags = set((named.get("flags") or named.get("Features") or "").split())
    known = [feature for feature in _FEATURES if feature in flags]
    return f"{named.get('model name') or platform.machine()} ({', '.join(known) or 'no vector features known'})"


def describe_cores() -> str:
    """Give the cores that this process may use, and the container's quota where there is one."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = cpu_quota()
    return f"{usable} usable" + (f", container quota {quota:g}" if quota else ", no container quota")


def cpu_quota() -> float | None:
    """Give the cores that the control group allows; None without a limit."""
    words = _read(Path("/sys/fs/cgroup/cpu.max")).split()
    if len(words) == 2 and words[0].isdigit() and int(words[1]) > 0:
        return int(words[0]) / int(words[1])
    legacy = Path("/sys/fs/cgroup/cpu")
    quota, period = _read(legacy / "cpu.cfs_quota_us").strip(), _read(legacy / "cpu.cfs_period_us").strip()
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def describe_memory() -> str:
    """Give the memory there is, what is free of it, and the container's limit."""
    fields = dict(line.split(":", 1) for line in _read(Path("/proc/meminfo")).splitlines() if ":" in line)
    sizes_gb = {name: int(value.split()[0]) * 1024 / 1e9 for name, value in fields.items() if value.split()}
    limit = _read(Path("/sys/fs/cgroup/memory.max")).strip()
    shown = f"{sizes_gb.get('MemTotal', 0):.1f} GB, {sizes_gb.get('MemAvailable', 0):.1f} GB available"
    return shown + (f", container limit {int(limit) / 1e9:.1f} GB" if limit.isdigit() else "")


def describe_disk(folder: Path) -> str:
    """Give the free space where a folder is or would be."""
    there = next((parent for parent in (folder, *folder.absolute().parents) if parent.exists()), Path("/"))
    return f"{shutil.disk_usage(there).free / 1e9:.1f} GB free"


def describe_cache(folder: Path) -> str:
    """Give the cache folder, its size, and whether it can be written."""
    if not folder.exists():
        return f"{folder} (not there yet)"
    size_mb = sum(path.stat().st_size for path in files_of(folder)) / 1e6
    return f"{folder} ({size_mb:.1f} MB{'' if os.access(folder, os.W_OK) else ', NOT WRITABLE'})"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
