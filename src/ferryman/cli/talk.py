"""Talk to people on stderr: what is being done now, what came out, what went wrong."""

import sys
import threading
import time
from types import TracebackType
from typing import Self, TextIO

from ferryman.cli.output import has_color, terminal_width, write_to

_STYLES = {"red": "1;31", "yellow": "33", "dim": "2", "green": "32"}
_FRAMES = {True: "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", False: "|/-\\"}
REDRAW_S = 0.12
PLAIN_LINE_EVERY_S = 10.0


def say(text: str, *, label: str = "", style: str = "") -> None:
    """Write lines to stderr, with a coloured label on a terminal."""
    head = f"{label}: " if label else ""
    if head and has_color(sys.stderr):
        head = f"\x1b[{_STYLES[style]}m{label}:\x1b[0m "
    shown = "".join(sign if sign.isprintable() or sign in "\n\t" else "\N{REPLACEMENT CHARACTER}" for sign in text)
    write_to(sys.stderr, f"{head}{shown}\n")
    sys.stderr.flush()


class Listener:
    """Show progress on a stream: one live line on a terminal, a line now and then elsewhere."""

    def __init__(self, stream: TextIO, *, is_quiet: bool = False) -> None:
        self._stream = stream
        self._is_quiet = is_quiet
        self._is_live = stream.isatty() and not is_quiet
        self._frames = _FRAMES[(stream.encoding or "").lower().startswith("utf")]
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._painter = threading.Thread(target=self._paint, daemon=True)
        self._started_s = self._stage_s = self._told_s = time.monotonic()
        self._stage, self._done, self._total = "", 0, 0

    def __enter__(self) -> Self:
        """Start to paint, on a terminal."""
        if self._is_live:
            self._painter.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop painting and leave a clean line."""
        self._stopping.set()
        if self._is_live:
            self._painter.join()
            self._write("\r\x1b[K")

    def __call__(self, stage: str, *, done: int = 0, total: int = 0, note: str = "") -> None:
        """Take one piece of news, as core.progress.Progress says."""
        if self._is_quiet:
            return
        with self._lock:
            now_s = time.monotonic()
            is_new = stage != self._stage
            if is_new:
                self._stage, self._stage_s = stage, now_s
            self._done, self._total = done, total
            if note:
                self._tell(f"{stage}: {note}", now_s)
            elif not self._is_live and (is_new or now_s - self._told_s > PLAIN_LINE_EVERY_S):
                self._tell(f"{stage}{'' if is_new or not total else f' {done}/{total}'}", now_s)

    def clear(self) -> None:
        """Take the live line away until the next piece of news, so that something else can be written."""
        with self._lock:
            self._stage = ""
            if self._is_live:
                self._write("\r\x1b[K")

    def _tell(self, text: str, now_s: float) -> None:
        """Write a line that stays; the caller holds the lock."""
        self._told_s = now_s
        clear = "\r\x1b[K" if self._is_live else ""
        shown = "".join(sign if sign.isprintable() else " " for sign in text)
        self._write(f"{clear}{now_s - self._started_s:7.1f} s  {shown}\n")

    def _paint(self) -> None:
        frame = 0
        while not self._stopping.wait(REDRAW_S):
            with self._lock:
                if self._stage:
                    self._write(f"\r\x1b[K{self._line(self._frames[frame % len(self._frames)])}")
            frame += 1

    def _line(self, sign: str) -> str:
        elapsed_s = time.monotonic() - self._stage_s
        shown = "".join(sign if sign.isprintable() else " " for sign in self._stage)
        bar = ""
        if self._total > 0:
            full = min(20 * self._done // self._total, 20)
            bar = f"  {'█' * full}{'░' * (20 - full)} {self._done}/{self._total}"
        return f"{sign} {shown}{bar}  {elapsed_s:.0f} s"[: max(terminal_width() - 1, 10)]

    def _write(self, text: str) -> None:
        write_to(self._stream, text)
        self._stream.flush()
