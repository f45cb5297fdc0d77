"""Toolchains that several formats stand on."""

from pathlib import Path

from ferryman.core.toolchain import Toolchain

TORCH = Toolchain(
    "torch",
    "PyTorch for the CPU: what converters of torch programs stand on.",
    python=(
        "torch==2.13.0+cpu; sys_platform == 'linux' and platform_machine == 'x86_64'",
        "torch==2.13.0; sys_platform != 'linux' or platform_machine != 'x86_64'",
        "numpy==2.4.6",
    ),
    lock=Path(__file__).parent / "locks" / "torch.txt",
    expected_mb=900,
    hint="for the CPU build of torch set PIP_EXTRA_INDEX_URL to PyTorch's own CPU packages (pytorch.org, Get Started)",
)
