"""What a receiver is told only by name: secrets, and addresses that are secret."""

from collections.abc import Mapping

from ferryman.core import secret
from ferryman.core.errors import UserError
from ferryman.core.secret import SECRET_SOURCES
from ferryman.monitor.notify.receiver import Undelivered


def read_secret(named: str, environment: Mapping[str, str]) -> str:
    """Give what a name stands for, read now, as files may be replaced; raises Undelivered that names the place."""
    try:
        return secret.read_secret(named, environment.get)
    except UserError as error:
        raise Undelivered(str(error)) from None


def read_address(named: str, environment: Mapping[str, str]) -> str:
    """Give an address that is written down, or named as a secret is."""
    return read_secret(named, environment) if named.startswith(SECRET_SOURCES) else named


def authorization(token: str | None, environment: Mapping[str, str]) -> dict[str, str]:
    """Give the header that shows a token, named as a secret is; none without one."""
    return {"Authorization": f"Bearer {read_secret(token, environment)}"} if token is not None else {}
