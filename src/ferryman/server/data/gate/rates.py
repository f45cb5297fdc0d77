"""Rate limits: each caller has a bucket that fills steadily, and a request takes one drop."""

from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address

from ferryman.core.errors import RateLimited

_PEERS_NETWORK = 64  # bits: one host is given that many addresses of IPv6, and could take each in turn

_ROUNDING_S = 1e-6  # sums of floats must not refuse a caller who keeps exactly to its rate


@dataclass(frozen=True, slots=True)
class Limit:
    """Allow `rate_per_s` requests a second in the long run, and `burst` at once."""

    rate_per_s: float
    burst: int = 1
    drop_s: float = field(init=False, repr=False)
    slack_s: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not (0 < self.rate_per_s < float("inf") and self.burst >= 1):
            raise ValueError("a limit needs a rate over 0 and a burst of 1 or more")
        object.__setattr__(self, "drop_s", 1.0 / self.rate_per_s)
        object.__setattr__(self, "slack_s", (self.burst - 1) / self.rate_per_s + _ROUNDING_S)


class RateLimits:
    """Hold one number a caller: when its bucket will be full again, on the clock that `take` is told.

    The table is bounded. A bucket that is full says nothing and goes first; where none is, the oldest goes.
    """

    __slots__ = ("_capacity", "_full_s")

    def __init__(self, capacity: int = 65536) -> None:
        self._capacity = capacity
        self._full_s: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._full_s)

    def take(self, who: str, limit: Limit, now_s: float) -> None:
        """Count one request of a caller; raises RateLimited that says when the next one fits."""
        full_s = self._full_s.get(who, 0.0)
        if full_s <= now_s:
            if not full_s:
                self._make_room(now_s)
            full_s = now_s
        elif full_s - now_s > limit.slack_s:
            wait_s = full_s - now_s - limit.slack_s + _ROUNDING_S
            raise RateLimited(
                f"{who} sends more than {limit.rate_per_s:g} requests a second",
                hint=f"wait {wait_s:.3f} s",
                retry_after_s=wait_s,
            )
        self._full_s[who] = full_s + limit.drop_s

    def _make_room(self, now_s: float) -> None:
        """Look at the two oldest buckets, so that full ones leave at least as fast as new ones come."""
        table = self._full_s
        for _ in range(min(2, len(table))):
            oldest = next(iter(table))
            full_s = table.pop(oldest)
            if full_s > now_s:
                table[oldest] = full_s  # still in use: to the end
        if len(table) >= self._capacity:
            del table[next(iter(table))]


def network_of(peer: str) -> str:
    """Give what one host can't change at will: its IPv4 address, or the network of its IPv6 address."""
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(IPv6Address(int(address) >> _PEERS_NETWORK << _PEERS_NETWORK))
    return str(address)
