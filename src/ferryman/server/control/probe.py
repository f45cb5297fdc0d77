"""Ask a worker golden samples while it serves, on the way that every request takes."""

import asyncio

from ferryman.core.bundle import Bundle, Golden
from ferryman.core.errors import DeadlineExceeded, FerrymanError, NotReady, Overloaded
from ferryman.core.task import bind_task
from ferryman.server.control.crew import ControlSettings
from ferryman.server.control.seat import spread
from ferryman.server.data.ask import Ask, Priority, Reply
from ferryman.server.data.job import Instance, Loaded
from ferryman.server.data.lane import Lane

_ANSWERED_S = 30.0
_SOONEST_S = 2.0  # between two probes, however often something looks wrong
_SAYS_NOTHING = (NotReady, Overloaded, DeadlineExceeded)  # of the answer: the worker is busy, or gone


class Probe:
    """Compare golden answers with those of the bundle, by the task's own measure."""

    def __init__(self, bundle: Bundle, loaded: Loaded, lane: Lane, settings: ControlSettings) -> None:
        self._bundle = bundle
        self._task = bind_task(bundle.deployment.task, loaded.signature)
        self._lane = lane
        self._settings = settings
        self._turn = 0
        self._is_wanted = asyncio.Event()
        self._word = "golden"
        self._last_s = float("-inf")

    def hurry(self, word: str) -> None:
        """Ask at once, for a reason that the metrics have a word for."""
        self._word = word
        self._is_wanted.set()

    async def pause(self) -> str:
        """Wait until it is time to ask, or somebody hurries; gives the metrics' word for why."""
        loop = asyncio.get_running_loop()
        every_s = self._settings.probe_s
        word = "golden"
        try:
            await asyncio.wait_for(self._is_wanted.wait(), spread(every_s) if every_s else None)
            word = self._word
            await asyncio.sleep(self._last_s + min(_SOONEST_S, every_s or _SOONEST_S) - loop.time())
        except TimeoutError:
            pass
        self._is_wanted.clear()
        self._last_s = loop.time()
        self._turn += 1
        return word

    async def ask(self, instance: Instance) -> str:
        """Ask one worker the sample whose turn it is; gives what is wrong with its answer, or nothing."""
        sample = self._bundle.golden[self._turn % len(self._bundle.golden)]
        reply = await self._answer(instance, sample)
        if isinstance(reply, FerrymanError):
            return "" if isinstance(reply, _SAYS_NOTHING) else f"refuses golden sample '{sample.name}': {reply}"
        return await asyncio.to_thread(self._compare, sample, reply)

    async def _answer(self, instance: Instance, sample: Golden) -> Reply | FerrymanError:
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Reply | FerrymanError] = loop.create_future()

        def done(reply: Reply | None, error: FerrymanError | None) -> None:
            outcome = reply if reply is not None else error
            if outcome is not None and not answered.done():
                answered.set_result(outcome)

        now_s = loop.time()
        ask = Ask(
            model=self._bundle.manifest.name,
            version=None,
            done=done,
            items=[sample.item],
            deadline_s=now_s + _ANSWERED_S,
            arrived_s=now_s,
            priority=Priority.LOW,
            is_probe=True,
        )
        self._lane.probe(instance, ask)
        return await answered

    def _compare(self, sample: Golden, reply: Reply) -> str:
        try:
            beyond = self._task.agreement([sample.answer], list(reply.answers or ())).beyond(self._bundle.tolerance)
        except Exception as error:  # noqa: BLE001 - what a task, a plug-in, can't compare is no right answer
            return f"golden sample '{sample.name}' can't be compared: {type(error).__name__}: {error}"
        if not beyond:
            return ""
        figures = ", ".join(f"{name} {value:.4g}" for name, value in beyond.items())
        return f"golden sample '{sample.name}' is off by {figures}"
