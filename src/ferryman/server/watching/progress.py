"""How far the watch has come, in memory that outlives it: the next one counts what was lost with the one before."""

import os
import struct

_FORM = struct.Struct("<QQ")


class Progress:
    """Hold how many records were dealt with, and how many are `lost` for all that is known: those that a watch
    was at when it died, of which it may have kept some.

    `descriptor` is of a file in memory that the front keeps.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        kept = os.pread(descriptor, _FORM.size, 0)
        self._done, self.lost = _FORM.unpack(kept) if len(kept) == _FORM.size else (0, 0)

    def begin(self, before: int) -> None:
        """Take a message before which `before` records were sent: those that nobody dealt with are lost."""
        self.lost += max(0, before - self._done)
        self._done = before

    def end(self, records: int) -> None:
        """Know that the message's records are dealt with."""
        self._done += records
        os.pwrite(self._descriptor, _FORM.pack(self._done, self.lost), 0)
