"""The admin routes of rollouts on a real port, and the verb that asks them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ferryman.cli import rollout
from ferryman.cli.main import Parser
from ferryman.server.control.rollout_admin import rollout_routes
from ferryman.server.data.http.connections import Connections
from ferryman.server.data.http.intake import Intake
from ferryman.server.data.http.limits import Limits
from ferryman.server.data.http.listener import Listener, open_socket, url_of
from ferryman.server.data.http.request import Listener as StreamListener
from ferryman.server.data.http.request import Request, Respond, Response, Stream
from ferryman.server.data.v2.addresses import Route
from tests.server.rollout.making import House


class Desk:
    """Find the handler of a request, and answer 404 where there is none."""

    def __init__(self, routes: list[Route]) -> None:
        self._routes = routes
        self._tasks: set[asyncio.Task[None]] = set()

    def admit(self, request: Request, length: int | None) -> Response | None:
        return None

    def answer(self, request: Request, respond: Respond) -> None:
        task = asyncio.ensure_future(self._answer(request, respond))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def forget(self, request: Request) -> None:
        pass

    def open_stream(self, request: Request, stream: Stream) -> StreamListener | Response:
        return Response(404)

    async def _answer(self, request: Request, respond: Respond) -> None:
        for method, pattern, handler in self._routes:
            parameters = _match(pattern, request.path)
            if method == request.method and parameters is not None:
                respond(await handler(request, parameters))
                return
        respond(Response(404, b"{}"))


def _match(pattern: str, path: str) -> dict[str, str] | None:
    wanted, given = pattern.split("/"), path.split("/")
    if len(wanted) != len(given):
        return None
    parameters = {}
    for part, value in zip(wanted, given, strict=True):
        if part.startswith("{"):
            parameters[part[1:-1]] = value
        elif part != value:
            return None
    return parameters


@asynccontextmanager
async def open_desk(house: House) -> AsyncIterator[str]:
    """Serve a house's admin routes while inside; gives the address. Its rollouts are judged as in a server."""
    limits = Limits()
    connections = Connections(
        Desk(rollout_routes(house.rollouts)), limits, Intake(limit_bytes=10**6, total_bytes=10**6)
    )
    listening = open_socket("127.0.0.1", 0)
    url = url_of(listening, is_tls=False)
    listener = Listener(listening, connections)
    await listener.start()
    judging = asyncio.create_task(house.rollouts.run())
    try:
        yield url
    finally:
        judging.cancel()
        await asyncio.gather(judging, return_exceptions=True)
        await listener.drain(5, idle_s=0)


async def ferryman_rollout(*words: str) -> int:
    """Run the verb beside the loop."""
    parser = Parser(prog="ferryman rollout")
    parser.add_argument("--quiet", action="store_true")
    rollout.add_arguments(parser)
    return await asyncio.to_thread(rollout.run, parser.parse_args(words))
