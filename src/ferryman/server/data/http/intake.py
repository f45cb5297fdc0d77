"""Count the bytes of all the requests that are in work, over every connection and protocol."""

from ferryman.core.errors import Overloaded


class Intake:
    """Hold the sum of what requests in work hold; use from one event loop.

    One body of `limit_bytes` always has room in an idle server, however small `total_bytes` is.
    """

    def __init__(self, *, limit_bytes: int, total_bytes: int) -> None:
        self.held_bytes = 0
        self._most_bytes = 0
        self._total_bytes = max(total_bytes, limit_bytes)

    def take(self, more_bytes: int) -> None:
        """Count more bytes, or raise Overloaded where that is too many."""
        if more_bytes and self.held_bytes + more_bytes > self._total_bytes:
            raise Overloaded(
                f"the requests in work hold {self.held_bytes} bytes; {more_bytes} more are over this server's limit "
                f"of {self._total_bytes}",
                hint="try again later",
            )
        self.held_bytes += more_bytes
        if self.held_bytes > self._most_bytes:
            self._most_bytes = self.held_bytes

    def give_back(self, size_bytes: int) -> None:
        """Count so many bytes no more."""
        self.held_bytes -= size_bytes

    def take_most(self) -> int:
        """Give the most bytes that were held at once since this was asked last."""
        most, self._most_bytes = self._most_bytes, self.held_bytes
        return most
