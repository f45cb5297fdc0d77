"""Memory that two processes share, for what is too large for a socket."""

import fcntl
import mmap
import os
from bisect import insort

from ferryman.core.errors import Overloaded

_ALIGNMENT = 64
_KEPT_BYTES = 8 * 1024 * 1024
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def make_arena_file(size_bytes: int) -> int:
    """Give the descriptor of memory without a name; it costs what is written to it, not what it could hold."""
    descriptor = os.memfd_create("ferryman-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size_bytes)
    # Without the seals a worker gone wild could shrink it, and the server would die of SIGBUS.
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    return descriptor


class Arena:
    """Give out blocks of shared memory; only the side that writes to it allocates and frees.

    First fit from the start, so that what was used once is used again, and what is beyond goes back to the system as
    soon as the arena is empty.
    """

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self.used_bytes = 0
        self.size_bytes = size_bytes
        self._map = mmap.mmap(descriptor, size_bytes)
        self._view = memoryview(self._map)
        self._gaps: list[tuple[int, int]] = [(0, size_bytes)]  # start and end, in order
        self._blocks: dict[int, int] = {}
        self._touched = 0

    @property
    def buffer(self) -> memoryview:
        """Give all of it."""
        return self._view

    def allocate(self, size_bytes: int) -> int:
        """Give the offset of a free block; raises Overloaded where there is none."""
        size = -(-max(size_bytes, 1) // _ALIGNMENT) * _ALIGNMENT
        for place, (start, end) in enumerate(self._gaps):
            if end - start >= size:
                if end - start == size:
                    del self._gaps[place]
                else:
                    self._gaps[place] = (start + size, end)
                self._blocks[start] = size
                self.used_bytes += size
                self._touched = max(self._touched, start + size)
                return start
        free_bytes = self.size_bytes - self.used_bytes
        raise Overloaded(
            f"{size_bytes} bytes don't fit into the {free_bytes} that are free of what a worker shares",
            hint="send less at once, or try again later",
        )

    def free(self, offset: int) -> None:
        """Take a block back; a second time, or an offset that is no block's, is a ValueError."""
        size = self._blocks.pop(offset, None)
        if size is None:
            raise ValueError(f"no block begins at {offset}")
        self.used_bytes -= size
        if not self._blocks:
            self._empty()
            return
        insort(self._gaps, (offset, offset + size))
        self._join(self._gaps.index((offset, offset + size)))

    def _join(self, place: int) -> None:
        gaps = self._gaps
        for left in (place, place - 1):
            if 0 <= left < len(gaps) - 1 and gaps[left][1] == gaps[left + 1][0]:
                gaps[left] = (gaps[left][0], gaps[left + 1][1])
                del gaps[left + 1]

    def _empty(self) -> None:
        self._gaps = [(0, self.size_bytes)]
        if self._touched > _KEPT_BYTES:
            self._map.madvise(mmap.MADV_REMOVE, _KEPT_BYTES, self.size_bytes - _KEPT_BYTES)
            self._touched = 0


def map_arena(descriptor: int) -> memoryview:
    """Give the memory that the other side allocates from."""
    return memoryview(mmap.mmap(descriptor, os.fstat(descriptor).st_size))
