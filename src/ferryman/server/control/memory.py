"""Keep all workers together under a ceiling: who has been idle for longest makes room."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from ferryman.core.errors import NotReady
from ferryman.server.control.forever import forever
from ferryman.server.control.supervisor import Supervisor

_log = logging.getLogger("ferryman.server")
_MB = 1024 * 1024


class NoRoom(NotReady):
    """Say that a model doesn't fit in beside those that are busy."""


def held_bytes(pid: int, *, proc: Path = Path("/proc")) -> int:
    """Give a process's share of the memory that it uses: what workers share counts once. 0 where it is gone; blocks."""
    try:
        for line in (proc / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return 0


class Ceiling:
    """Bound the memory of all workers. `residents` are who is loaded, `may_leave` who of them may go now."""

    def __init__(
        self,
        limit_mb: int,
        residents: Callable[[], Sequence[Supervisor]],
        may_leave: Callable[[Supervisor], bool],
        evict: Callable[[Supervisor], Awaitable[None]],
    ) -> None:
        self._limit_bytes = limit_mb * _MB
        self._residents = residents
        self._may_leave = may_leave
        self._evict = evict
        self._weights: dict[str, int] = {}  # what an edition takes, by digest

    async def make_room(self, name: str, digest: str, size_bytes: int, *, evicts: bool) -> None:
        """Have room for a model before it is loaded; raises NoRoom where nobody who is idle could make enough.

        Where it never `evicts`, the room must be there already.
        """
        needed = self._weights.get(digest, size_bytes)
        over = await self._reduce(needed, keep=name, evicts=evicts)
        if over > 0:
            raise NoRoom(
                f"it needs about {needed // _MB} MB, {over // _MB + 1} more than the {self._limit_bytes // _MB} MB "
                f"for all models leave{' while the others are busy' if evicts else ''}",
                hint="try again later, or allow more memory",
            )

    async def check(self, resident: Supervisor) -> None:
        """See that a model that was just loaded fits in by itself; raises NoRoom where it never will.

        An engine must fit in beside all others: it is worth nobody's leaving.
        """
        mine = resident.name, resident.version
        others = [other for other in self._residents() if resident.engine and (other.name, other.version) != mine]
        held = await self._weigh([resident, *others])
        if sum(held.values()) > self._limit_bytes:
            beside = "beside the others" if others else "by itself"
            raise NoRoom(
                f"it takes {held[resident] // _MB} MB {beside}, and all models together may have "
                f"{self._limit_bytes // _MB}",
                hint="allow more: --max-memory-mb",
            )

    async def keep(self, every_s: float) -> None:
        """Look at the memory again and again; never returns."""
        await forever(self._look, "looking at the memory of all models", every_s=every_s)

    async def _look(self) -> None:
        over = await self._reduce(0, keep="", evicts=True)
        if over > 0:
            _log.warning(
                "models hold %d MB more than they may, and none may leave: each is at work, or loaded in two versions",
                over // _MB,
            )

    async def _reduce(self, needed: int, *, keep: str, evicts: bool) -> int:
        """Evict, where that is allowed, until `needed` more bytes fit; gives the bytes that are still over."""
        held = await self._weigh(self._residents())
        over = sum(held.values()) + needed - self._limit_bytes
        for resident in sorted(held, key=lambda resident: resident.last_used_s):
            if over <= 0 or not evicts:
                break
            if resident.name != keep and resident.is_idle and self._may_leave(resident):
                over -= held[resident]
                _log.info("model '%s' makes room: it was idle for longest", resident.name)
                await self._evict(resident)
        return over

    async def _weigh(self, residents: Sequence[Supervisor]) -> dict[Supervisor, int]:
        held: dict[Supervisor, int] = {}
        for resident in residents:
            pids = [hand.pid for hand in resident.hands()]
            held[resident] = sum(await asyncio.to_thread(lambda: [held_bytes(pid) for pid in pids]))  # noqa: B023
            digest = resident.bundle.manifest.digest
            if held[resident]:  # the least that was seen: what requests made it grow by is not there after a load
                self._weights[digest] = min(self._weights.get(digest, held[resident]), held[resident])
        return held
