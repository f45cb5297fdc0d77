"""NVIDIA's GPUs, through NVML (the driver's own library; nvidia-ml-py, an extra).

Source: NVML API Reference, https://docs.nvidia.com/deploy/nvml-api/.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

# Of nvmlClocksEventReasons: the hardware's brake and its heat, the driver's heat; a power cap that is set is no fault.
_SLOWED = 0x8 | 0x20 | 0x40 | 0x80


@dataclass(frozen=True, slots=True)
class Gpu:
    """Hold what one GPU tells; NaN where it doesn't. `busy` and `slowed` are between 0 and 1."""

    number: int
    name: str
    busy: float
    used_bytes: float
    total_bytes: float
    temperature_c: float
    power_w: float
    joules: float
    """Since the driver was loaded."""
    slowed: float
    """1 where heat or the power supply slow it down now."""


class Gpus:
    """Look at every GPU of this machine; without NVML or a driver there is none, and `why` says so. For one thread."""

    def __init__(self, library: ModuleType | None = None) -> None:
        self.why = ""
        self._library: Any = library  # NVML tells no types
        self._handles: list[Any] = []
        try:
            self._library = library or import_module("pynvml")
            self._library.nvmlInit()
            count = self._library.nvmlDeviceGetCount()
            self._handles = [self._library.nvmlDeviceGetHandleByIndex(number) for number in range(count)]
        except ImportError:
            self.why = "pynvml is not installed: pip install 'ferryman[gpu]'"
        except self._failures() as error:
            self.why = f"NVML: {error}"

    def look(self) -> list[Gpu]:
        """Give each GPU as it is now."""
        return [self._look(number, handle) for number, handle in enumerate(self._handles)]

    def _look(self, number: int, handle: Any) -> Gpu:
        nvml = self._library
        memory = self._ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
        rates = self._ask(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
        name = self._ask(lambda: nvml.nvmlDeviceGetName(handle)) or "GPU"
        reasons = self._ask(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
        milliwatts = self._ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        millijoules = self._ask(lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        heat = self._ask(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
        return Gpu(
            number,
            name.decode() if isinstance(name, bytes) else str(name),
            busy=math.nan if rates is None else rates.gpu / 100,
            used_bytes=math.nan if memory is None else float(memory.used),
            total_bytes=math.nan if memory is None else float(memory.total),
            temperature_c=math.nan if heat is None else float(heat),
            power_w=math.nan if milliwatts is None else milliwatts / 1000,
            joules=math.nan if millijoules is None else millijoules / 1000,
            slowed=math.nan if reasons is None else float(bool(reasons & _SLOWED)),
        )

    def _ask(self, question: Callable[[], Any]) -> Any:
        """Give an answer, or None: each kind of GPU lacks some of them."""
        try:
            return question()
        except self._failures():
            return None

    def _failures(self) -> tuple[type[Exception], ...]:
        kind = getattr(self._library, "NVMLError", None)
        return (kind,) if kind is not None else ()
