"""What a CUDA engine needs around it: the device's name, memory on it, a stream."""

from typing import Any

import numpy as np

from ferryman.core.errors import FerrymanError, MissingExtra
from ferryman.core.signature import Array


def describe_device() -> dict[str, str]:
    """Name the first CUDA device and the newest CUDA its driver knows; raises MissingExtra where there is none."""
    cuda = _cuda()
    known = int(_told(cuda.cudaDriverGetVersion()))
    if not known:
        raise MissingExtra("no NVIDIA driver is installed here", hint="TensorRT runs on a machine with an NVIDIA GPU")
    count = _told(cuda.cudaGetDeviceCount())
    if not count:
        raise MissingExtra("CUDA finds no GPU", hint="is one there, and does CUDA_VISIBLE_DEVICES show it?")
    about = _told(cuda.cudaGetDeviceProperties(0))
    name = about.name.decode() if isinstance(about.name, bytes) else str(about.name)
    return {
        "device": name,
        "compute": f"{about.major}.{about.minor}",
        "memory_mb": str(about.totalGlobalMem // (1024 * 1024)),
        "driver_cuda": f"{known // 1000}.{known % 1000 // 10}",
    }


class Memory:
    """Hold one stream and a buffer for each tensor on the device; for one thread at a time."""

    def __init__(self) -> None:
        self._cuda = _cuda()
        self._held: dict[str, tuple[int, int]] = {}  # address and bytes, by the tensor's name
        self.stream = int(_told(self._cuda.cudaStreamCreate()))

    def address(self, name: str, size_bytes: int) -> int:
        """Give a tensor's buffer of at least so many bytes; what was in a smaller one is gone."""
        address, held = self._held.get(name, (0, -1))
        if held < size_bytes:
            self._free(self._held.pop(name, None))
            address = int(_told(self._cuda.cudaMalloc(max(size_bytes, 1))))
            self._held[name] = (address, size_bytes)
        return address

    def write(self, name: str, values: Array) -> int:
        """Copy an array, contiguous, to the device; gives its address. The array must live until `wait`."""
        address = self.address(name, values.nbytes)
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        _told(self._cuda.cudaMemcpyAsync(address, values.ctypes.data, values.nbytes, kind, self.stream))
        return address

    def read(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Begin to copy a tensor back; it is there after `wait`."""
        values: Array = np.empty(shape, dtype)
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        address = self.address(name, values.nbytes)
        _told(self._cuda.cudaMemcpyAsync(values.ctypes.data, address, values.nbytes, kind, self.stream))
        return values

    def wait(self) -> None:
        """Wait until all that was begun is done."""
        _told(self._cuda.cudaStreamSynchronize(self.stream))

    def close(self) -> None:
        """Free everything."""
        for name in list(self._held):
            self._free(self._held.pop(name))
        if self.stream:
            _told(self._cuda.cudaStreamDestroy(self.stream))
            self.stream = 0

    def _free(self, held: tuple[int, int] | None) -> None:
        if held is not None:
            _told(self._cuda.cudaFree(held[0]))


def _cuda() -> Any:  # the module
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise MissingExtra(
            f"CUDA's Python bindings can't be used: {error}", hint='pip install "ferryman[tensorrt]"'
        ) from error
    return runtime


def _told(reply: tuple[Any, ...]) -> Any:  # what CUDA gives after its status
    """Give what a call answered; raises FerrymanError with CUDA's own word, MissingExtra where there is no device."""
    status, *answer = reply
    if int(status) == 0:
        return answer[0] if answer else None
    word = getattr(status, "name", str(status))
    if word in ("cudaErrorNoDevice", "cudaErrorInsufficientDriver"):
        raise MissingExtra(
            f"CUDA finds no GPU that it can use ({word})",
            hint="TensorRT runs on a machine with an NVIDIA GPU and a driver that is new enough for its CUDA",
        )
    raise FerrymanError(f"CUDA failed: {word}", hint="nvidia-smi tells what the device is busy with")
