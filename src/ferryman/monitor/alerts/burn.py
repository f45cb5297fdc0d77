"""How fast a version's error budget is spent: counts over sliding windows, at two resolutions, in bounded memory."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from ferryman.monitor.alerts.fact import Traffic

Counts = tuple[int, int, int]  # ok, failed, slow
_TIERS = ((10.0, 3600.0), (300.0, 259200.0))  # seconds in a slot, and seconds kept: 360 and 864 slots


@dataclass(slots=True)
class _Tier:
    """Keep counts in slots of `slot_s` seconds for `kept_s`; a slot is [its number, ok, failed, slow]."""

    slot_s: float
    kept_s: float
    slots: deque[list[int]] = field(default_factory=deque)

    def add(self, delta: Counts, elapsed_s: float) -> None:
        number = int(elapsed_s // self.slot_s)
        if not self.slots or self.slots[-1][0] < number:
            self.slots.append([number, 0, 0, 0])
        for place, count in enumerate(delta, start=1):
            self.slots[-1][place] += count
        oldest = number - int(self.kept_s // self.slot_s)
        while self.slots[0][0] < oldest:
            self.slots.popleft()

    def over(self, window_s: float, elapsed_s: float) -> Counts:
        oldest = int(elapsed_s // self.slot_s) - int(window_s // self.slot_s)
        ok = failed = slow = 0
        for slot in reversed(self.slots):
            if slot[0] <= oldest:
                break
            ok, failed, slow = ok + slot[1], failed + slot[2], slow + slot[3]
        return ok, failed, slow


class History:
    """Remember what a version's requests came to in the last three days; times are seconds of a `Pace`."""

    def __init__(self) -> None:
        self._tiers = [_Tier(slot_s, kept_s) for slot_s, kept_s in _TIERS]
        self._last: Counts | None = None

    def add(self, traffic: Traffic, elapsed_s: float) -> int:
        """Take the counts as they are now; a count that fell began anew. Gives how many requests came since."""
        now = (traffic.ok, traffic.failed, traffic.slow)
        last, self._last = self._last or now, now  # what was before the watch began is no news
        if any(count < before for count, before in zip(now, last, strict=True)):
            last = (0, 0, 0)
        delta = (now[0] - last[0], now[1] - last[1], now[2] - last[2])
        for tier in self._tiers:
            tier.add(delta, elapsed_s)
        return delta[0] + delta[1]

    def over(self, window_s: float, elapsed_s: float) -> Counts:
        """Give ok, failed and slow requests of the last `window_s` seconds, to a fiftieth of an hour or of six."""
        fits = next(tier for tier in self._tiers if window_s <= tier.kept_s)
        return fits.over(window_s, elapsed_s)

    def share(self, fact: str, window_s: float, elapsed_s: float) -> tuple[float, int]:
        """Give the share of requests that failed, or of answers that were slow, and how many that were."""
        ok, failed, slow = self.over(window_s, elapsed_s)
        bad, all_of = (failed, ok + failed) if fact == "failed" else (slow, ok)
        return (bad / all_of if all_of else 0.0), bad

    def save(self) -> dict[str, Any]:  # JSON
        """Give it as JSON."""
        return {"last": self._last, "tiers": [list(tier.slots) for tier in self._tiers]}

    @classmethod
    def restore(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `save` gave; raises TypeError, KeyError or ValueError for something else."""
        made = cls()
        if stored["last"] is not None:
            ok, failed, slow = (int(count) for count in stored["last"])
            made._last = (ok, failed, slow)
        for tier, slots in zip(made._tiers, stored["tiers"], strict=True):
            tier.slots = deque(_slot(slot) for slot in slots)
        return made


def _slot(stored: Sequence[Any]) -> list[int]:
    number, ok, failed, slow = stored
    return [int(number), int(ok), int(failed), int(slow)]
