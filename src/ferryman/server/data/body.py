"""Read requests' bodies up to a size, a time and a sum of all that are in work, no further."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from ferryman.core.errors import InputError, Overloaded, TooLarge
from ferryman.server.data.answers import Late


class Intake:
    """Take bodies in, and know how many bytes of them are in work; use from one event loop."""

    def __init__(self, *, limit_bytes: int, total_bytes: int, deadline_s: float) -> None:
        self._limit_bytes = limit_bytes
        self._total_bytes = max(total_bytes, limit_bytes)
        self._deadline_s = deadline_s
        self._held_bytes = 0

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """Give the body, whose bytes count until the end of the block.

        Raises TooLarge as soon as it is known to be, Overloaded before anything is read where there is no room for it,
        Late where it does not come.
        """
        held = _Held(self)
        try:
            held.grow_to(self._declared(request))
            yield await self._read(request, held)
        finally:
            self._held_bytes -= held.size

    def take(self, more_bytes: int) -> None:
        """Count more bytes, or raise Overloaded where that is too many."""
        if more_bytes and self._held_bytes + more_bytes > self._total_bytes:
            raise Overloaded(
                f"the requests in work hold {self._held_bytes} bytes; {more_bytes} more are over this server's limit "
                f"of {self._total_bytes}",
                hint="try again later",
            )
        self._held_bytes += more_bytes

    def _declared(self, request: Request) -> int:
        declared = request.headers.get("content-length", "0")
        if not (declared.isascii() and declared.isdecimal()):
            raise InputError(f"content-length {declared!r:.40} is not a number")
        return self._within_limit(int(declared))

    async def _read(self, request: Request, held: "_Held") -> bytes:
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._deadline_s):
                async for chunk in request.stream():
                    size = self._within_limit(size + len(chunk))
                    held.grow_to(size)
                    chunks.append(chunk)
        except TimeoutError:
            raise Late(f"the body did not come within {self._deadline_s:g} s") from None
        return b"".join(chunks)

    def _within_limit(self, size: int) -> int:
        if size > self._limit_bytes:
            raise TooLarge(
                f"the body is larger than {self._limit_bytes} bytes",
                hint="send less, or serve with a larger --max-body-mb",
            )
        return size


class _Held:
    """Hold the bytes that one request has in work: those declared, or those that came without being declared."""

    def __init__(self, intake: Intake) -> None:
        self.size = 0
        self._intake = intake

    def grow_to(self, size: int) -> None:
        """Hold as many bytes, or raise Overloaded."""
        if size > self.size:
            self._intake.take(size - self.size)
            self.size = size
