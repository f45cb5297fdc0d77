"""A data plane with two versions of a small model, run in this process, and a clock that goes when it is told to."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ferryman.core.bundle import Bundle
from ferryman.core.errors import FerrymanError, NotFound, NotReady
from ferryman.core.signature import Array
from ferryman.server.control.rollout import Rollouts
from ferryman.server.control.rollout_moves import Memory
from ferryman.server.control.rollout_plan import Plan
from ferryman.server.control.rollout_run import Health
from ferryman.server.control.state import State
from ferryman.server.data.ask import Ask, Reply
from ferryman.server.data.dataplane import Dataplane
from ferryman.server.data.job import GoldenVerdict, Job, Loaded
from ferryman.server.data.lane import Lane, LaneLimits
from ferryman.server.data.models import Served
from tests.bundle.making import bundle_affine

DEADLINE_S = 20
AT_ONCE = 200
# Its p99 is no ground: both engines answer in microseconds, and the machine may stand still for one of them.
CANARY = Plan(shadow=0.0, steps=(0.05, 0.5), min_requests=20, step_s=60.0, keep_s=600.0, max_p99_ratio=1000.0)


class Engine:
    """Answer values * factor + 1, in the loop's next turn; or fail, be wrong in other ways, or wait to be let go."""

    def __init__(self, factor: float) -> None:
        self.free = 64
        self.factor = factor
        self.error: FerrymanError | None = None
        self.held: list[Job] | None = None

    def run(self, job: Job) -> None:
        if self.held is not None:
            self.held.append(job)
        else:
            asyncio.get_running_loop().call_soon(self.finish, job)

    def let_go(self) -> None:
        held, self.held = self.held or [], None
        for job in held:
            self.finish(job)

    def finish(self, job: Job) -> None:
        job.settled(job, [self.error or self._reply(ask) for ask in job.asks])

    def _reply(self, ask: Ask) -> Reply:
        assert ask.tensors is not None
        values: Array = np.asarray(ask.tensors["values"], np.float32) * self.factor + 1
        return Reply({"sum": values}, is_finite=bool(np.isfinite(values).all()))


class Shop:
    """Load, unload and activate as a repository does, with engines in the place of workers."""

    def __init__(self, plane: Dataplane, bundles: dict[str, Bundle], memory: Memory) -> None:
        self.engines: dict[str, Engine] = {}
        self.unloaded: list[str] = []
        self.broken: dict[str, FerrymanError] = {}
        self.ill: dict[str, Health] = {}
        self.factors = {version: 2.0 for version in bundles}
        self.held: asyncio.Event | None = None
        self._plane, self._bundles, self._memory = plane, bundles, memory

    async def look_for(self, name: str, version: str) -> None:
        if version not in self._bundles:
            raise NotFound(f"no bundle of model '{name}' has version '{version}'", hint="there are versions 1, 2")

    async def load(self, name: str, version: str, *, activate: bool) -> None:
        if self.held is not None:
            await self.held.wait()
        if version in self.broken:
            raise self.broken[version]
        if version not in self._bundles:
            raise NotFound(f"model '{name}' has no version '{version}'")
        if version not in self.engines:
            engine = self.engines[version] = Engine(self.factors[version])
            bundle = self._bundles[version]
            lane = Lane(asyncio.get_running_loop(), LaneLimits(), name)
            lane.add(engine)
            loaded = Loaded(bundle.artifact.signature, "tensors", GoldenVerdict("", 1), 8, "", True, 0.0)
            self._plane.put(Served(name, version, bundle, loaded, lane))
        if activate:
            await self.activate(name, version)

    async def unload(self, name: str, version: str) -> None:
        lane = self._plane.find(name, version).lane
        if lane.waiting or lane.in_flight:
            lane.abandon(NotReady("it was unloaded while requests ran"))
        self._plane.remove(name, version)
        del self.engines[version]
        self.unloaded.append(version)

    async def activate(self, name: str, version: str) -> None:
        self._plane.find(name, version)
        await self._memory.put(f"active/{name}", version)
        self._plane.activate(name, version)

    def health(self, name: str, version: str) -> Health | None:
        return self.ill.get(version, Health()) if version in self.engines else None


class House:
    """Hold a running server's inside: build it with `open`, and again with `reopen` after a kill."""

    def __init__(self, folder: Path, factors: Sequence[float] = (2.0, 2.0)) -> None:
        self.folder = folder
        self.now_s = 1000.0
        self.factors = {str(number + 1): factor for number, factor in enumerate(factors)}
        self.bundles = {version: bundle_affine(folder / f"bundle-{version}") for version in self.factors}

    async def open(self) -> None:
        """Load the active version, then go on with what was remembered."""
        self.plane = Dataplane(asyncio.get_running_loop())
        self.memory = State(self.folder / "state")
        self.shop = Shop(self.plane, self.bundles, self.memory)
        self.shop.factors.update(self.factors)
        await self.shop.load("affine", self.memory.get("active/affine") or "1", activate=True)
        self.rollouts = Rollouts(self.plane, self.shop, self.memory, clock=lambda: self.now_s, wall=lambda: self.now_s)
        await self.rollouts.resume()

    async def kill(self) -> None:
        """Forget everything but what is on the disk."""
        self.memory.close()
        await self.rollouts.close()

    async def ask(self, count: int = 1, *, sticky: str = "", version: str | None = None) -> Counter[str]:
        """Ask so often at once; gives how often each version (or error) answered, and counts `lost` ones."""
        loop = asyncio.get_running_loop()
        ended: Counter[str] = Counter()
        until_s = loop.time() + DEADLINE_S
        for number in range(count):
            self.submit(ended, sticky, version)
            while ended.total() < number + 1 - AT_ONCE and loop.time() < until_s:
                await asyncio.sleep(0)
        while ended.total() < count and loop.time() < until_s:
            await asyncio.sleep(0)
        ended["lost"] += count - ended.total()
        return +ended

    def submit(
        self, ended: "Counter[str]", sticky: str = "", version: str | None = None, *, values: float = 1.0
    ) -> None:
        """Ask once; the answer is counted when it comes."""

        def done(reply: Reply | None, error: FerrymanError | None) -> None:
            ended[reply.version if reply is not None else type(error).__name__] += 1

        now_s = asyncio.get_running_loop().time()
        self.plane.submit(
            Ask(
                "affine",
                version,
                done,
                tensors={"values": np.full((1, 3), values, np.float32)},
                arrived_s=now_s,
                deadline_s=now_s + 60,
                sticky=sticky,
            )
        )

    async def until(self, phase: str) -> None:
        """Let the loop run until the rollout is there."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + DEADLINE_S
        while self.phase != phase:
            assert loop.time() < until_s, f"{self.phase}, not {phase}: {self.rollouts.status()}"
            await asyncio.sleep(0.001)

    async def saved(self) -> None:
        """Let what is written now be written."""
        await self.memory.put("marker", 1)

    async def until_told(self, kind: str) -> None:
        """Let the loop run until the last event is of this kind."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + DEADLINE_S
        while self.events[-1][0] != kind:
            assert loop.time() < until_s, f"{self.events}"
            await asyncio.sleep(0.001)

    async def until_unloaded(self, version: str) -> None:
        """Let the loop run until a version is gone."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + DEADLINE_S
        while version not in self.shop.unloaded:
            assert loop.time() < until_s, f"{version} is still loaded"
            await asyncio.sleep(0.001)

    async def compared(self, count: int) -> None:
        """Ask until so many shadowed answers were compared in this step."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + DEADLINE_S
        while self.rollouts.status("affine")[0]["figures"].get("shadow", {"compared": 0})["compared"] < count:
            assert loop.time() < until_s, self.status
            await self.ask(5)
            await asyncio.sleep(0.002)

    async def step(self, requests: int = 400) -> str:
        """Let a step's time pass with so many requests, and have it judged; gives the phase after it."""
        await self.ask(requests)
        self.now_s += 60
        await self.rollouts.tick()
        return self.phase

    @property
    def status(self) -> dict[str, object]:
        return self.rollouts.status("affine")[0]

    @property
    def phase(self) -> str:
        return str(self.status["phase"])

    @property
    def place(self) -> int:
        """Give the canary step, from 0."""
        return int(str(self.status["step"]))

    @property
    def reason(self) -> str:
        """Give the last event's reason."""
        return self.events[-1][1]

    @property
    def events(self) -> list[tuple[str, str]]:
        events = self.status["events"]
        assert isinstance(events, list)
        return [(event["kind"], event["reason"]) for event in events]


async def opened(folder: Path, *factors: float) -> House:
    """Give a house that is open; version 1 is the active one."""
    house = House(folder, factors or (2.0, 2.0))
    await house.open()
    return house
