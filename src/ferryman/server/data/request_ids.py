"""Names for requests whose caller gave none."""

import secrets
from itertools import count


class RequestIds:
    """Give ids that no other server and no later start of this one gives: a random start, and a count."""

    def __init__(self) -> None:
        self._start = secrets.token_hex(6)
        self._numbers = count(1)

    def new(self) -> str:
        """Give the next one, as 5f0c2a917be4-1a."""
        return f"{self._start}-{next(self._numbers):x}"
