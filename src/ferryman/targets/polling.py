"""Wait until what was put somewhere answers, or until it is gone."""

import time
from collections.abc import Callable

from ferryman.core.errors import DeployError
from ferryman.core.progress import Progress
from ferryman.core.target import Standing

_LOOK_S = 0.5


def until(look: Callable[[], Standing], *, limit_s: float, name: str, progress: Progress) -> Standing:
    """Look until it is ready; raises DeployError with what was seen last when the time is over."""
    end_s = time.monotonic() + limit_s
    while not (seen := look()).is_ready:
        progress(f"waiting for {name}", done=seen.ready, total=seen.wanted)
        if time.monotonic() > end_s:
            why = "\n".join([f"{seen.ready} of {seen.wanted} copies answer after {limit_s:g} s", *seen.notes])
            raise DeployError(f"{name} doesn't come up: {why}", hint="see `ferryman deploy logs`")
        time.sleep(_LOOK_S)
    return seen


def until_gone(is_there: Callable[[], bool], *, limit_s: float, name: str, progress: Progress) -> None:
    """Look until it isn't there any more; raises DeployError when the time is over."""
    end_s = time.monotonic() + limit_s
    while is_there():
        progress(f"waiting until {name} is gone")
        if time.monotonic() > end_s:
            raise DeployError(
                f"{name} is still there after {limit_s:g} s",
                hint="it may still finish requests: ask again",
            )
        time.sleep(_LOOK_S)
