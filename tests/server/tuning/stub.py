"""Be a server with `ferryman serve`'s options whose speed is known: a call takes `STUB_CALL_S`, whatever its batch.

Paths choose what comes back: /refuse 429, /fail 500, /drop nothing, /chunked in chunks, /stall after 400 ms in which
nobody else is answered either.
"""

import argparse
import asyncio
import json
import os
import time

CALL_S = float(os.environ.get("STUB_CALL_S", "0.001"))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
STATUSES = {b"/refuse": b"429 Too Many Requests", b"/fail": b"500 Internal Server Error"}
Asked = tuple[asyncio.StreamWriter, bytes]


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, queue: "asyncio.Queue[Asked]") -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            sizes = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            await reader.readexactly(int(sizes[0].split(b":")[1]) if sizes else 0)
            path = head.split(b" ")[1]
            if path == b"/drop":
                writer.transport.abort()
                return
            if path in STATUSES:
                writer.write(b"HTTP/1.1 " + STATUSES[path] + b"\r\nContent-Length: 0\r\n\r\n")
                continue
            if path == b"/stall":
                time.sleep(0.4)  # the point of it: the whole server stands still
            queue.put_nowait((writer, CHUNKED if path == b"/chunked" else OK))
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def work(queue: "asyncio.Queue[Asked]", max_batch: int) -> None:
    while True:
        batch = [await queue.get()]
        while len(batch) < max_batch and not queue.empty():
            batch.append(queue.get_nowait())
        await asyncio.sleep(CALL_S)
        for writer, reply in batch:
            writer.write(reply)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle")
    parser.add_argument("--port", type=int)
    for option in ("--threads", "--instances", "--max-batch"):
        parser.add_argument(option, type=int, default=1)
    parser.add_argument("--unready-s", type=float)
    for flag in ("--json", "--quiet"):
        parser.add_argument(flag, action="store_true")
    args = parser.parse_args()
    if args.bundle == "broken":
        raise SystemExit("error: this bundle is broken")
    queue: asyncio.Queue[Asked] = asyncio.Queue()
    workers = [asyncio.create_task(work(queue, args.max_batch)) for _ in range(args.instances)]
    server = await asyncio.start_server(lambda r, w: answer(r, w, queue), "127.0.0.1", args.port, backlog=512)
    print(json.dumps({"url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"}), flush=True)
    await asyncio.gather(*workers)


if __name__ == "__main__":
    asyncio.run(main())
