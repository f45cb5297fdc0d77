"""How a check says that a rule doesn't hold, or that it could not be tried."""


class Broken(Exception):
    """Say in what the server differs from the protocol."""


class NotTried(Exception):
    """Say why a check could not be run: nothing is left out in silence."""


def expect(is_so: bool, message: str) -> None:
    """Raise Broken with `message` unless it is so."""
    if not is_so:
        raise Broken(message)
