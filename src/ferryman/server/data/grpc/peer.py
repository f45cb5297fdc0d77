"""Who is at the other end of a connection."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Peer:
    """Hold an address, and a client's certificate as `ssl` describes it where one was shown."""

    address: str = ""
    certificate: Mapping[str, Any] = field(default_factory=dict)  # as SSLSocket.getpeercert() gives it


def peer_of(transport: asyncio.BaseTransport) -> Peer:
    """Ask a transport."""
    name = transport.get_extra_info("peername")
    address = str(name[0]) if isinstance(name, tuple) and name else str(name or "")
    return Peer(address, transport.get_extra_info("peercert") or {})
