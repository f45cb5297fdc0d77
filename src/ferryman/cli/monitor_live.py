"""Look at a server each second until Ctrl-C; one that goes away is shown as gone, and looked for on."""

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ferryman.cli.monitor_figures import Rates
from ferryman.cli.monitor_view import render_lines, render_screen
from ferryman.cli.output import has_color, terminal_width, write_json, write_text
from ferryman.client.admin import Admin
from ferryman.core.errors import NotReady
from ferryman.verify.columns import Paint

_LOOK_S = 1.0
_OTHER_SCREEN, _HIDE = "\x1b[?1049h\x1b[2J", "\x1b[?25l"
_BACK, _SHOW = "\x1b[?1049l", "\x1b[?25h"
_HOME, _REST_OF_LINE, _BELOW = "\x1b[H", "\x1b[K", "\x1b[J"


def look_once(admin: Admin, url: str, *, as_json: bool) -> None:
    """Look twice, a second apart, and show what was between; raises NotReady where nobody answers."""
    rates = Rates()
    rates.add(admin.live())
    time.sleep(_LOOK_S)
    shown = rates.add(admin.live())
    if as_json:
        write_json(shown)
    else:
        paint = Paint(has_color(sys.stdout))
        drawn = render_screen(shown, url=url, trouble="", width=terminal_width(), height=10_000, paint=paint)
        write_text(f"{drawn}\n")


def look_on(admin: Admin, url: str, *, as_json: bool) -> None:
    """Show it each second, on a screen of its own where there is a terminal; ends by Ctrl-C, without a trace."""
    is_screen = sys.stdout.isatty() and not as_json
    rates, shown = Rates(), None
    with _screen() if is_screen else _plain():
        while True:
            began_s, trouble = time.monotonic(), ""
            try:
                shown = rates.add(admin.live())
            except NotReady as error:
                trouble = str(error)
            _show(shown, url, trouble, as_json=as_json, is_screen=is_screen)
            time.sleep(max(0.0, _LOOK_S - (time.monotonic() - began_s)))


def _show(shown: dict[str, Any] | None, url: str, trouble: str, *, as_json: bool, is_screen: bool) -> None:  # JSON
    if as_json:
        write_json({"error": trouble} if trouble else shown)
    elif is_screen:
        width, height = shutil.get_terminal_size()
        paint = Paint(has_color(sys.stdout))
        drawn = render_screen(shown, url=url, trouble=trouble, width=width, height=height, paint=paint)
        write_text(_HOME + drawn.replace("\n", f"{_REST_OF_LINE}\n") + _REST_OF_LINE + _BELOW)
    else:
        write_text(render_lines(shown, url=url, trouble=trouble) + "\n")
    sys.stdout.flush()


@contextmanager
def _plain() -> Iterator[None]:
    with suppress(KeyboardInterrupt):
        yield


@contextmanager
def _screen() -> Iterator[None]:
    write_text(_OTHER_SCREEN + _HIDE)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        write_text(_SHOW + _BACK)
        sys.stdout.flush()
