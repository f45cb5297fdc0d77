"""Read a request's body up to a size and a time, no further."""

import asyncio

from starlette.requests import Request

from ferryman.core.errors import InputError, TooLarge
from ferryman.server.data.answers import Late


async def read_body(request: Request, *, limit_bytes: int, deadline_s: float) -> bytes:
    """Give the body; raises TooLarge as soon as it is known to be, Late where it does not come."""
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal():
        raise InputError(f"content-length {declared!r:.40} is not a number")
    if int(declared) > limit_bytes:
        raise _too_large(limit_bytes)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(deadline_s):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit_bytes:
                    raise _too_large(limit_bytes)
                chunks.append(chunk)
    except TimeoutError:
        raise Late(f"the body did not come within {deadline_s:g} s") from None
    return b"".join(chunks)


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit_bytes} bytes", hint="send less, or raise the server's limit")
