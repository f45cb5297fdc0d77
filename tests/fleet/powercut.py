"""Cut the power at any one file-system call, and lose what was not synced by then."""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

Damage = Literal["nothing is lost", "what was not synced is empty", "names that were not synced are undone"]
DAMAGES: tuple[Damage, ...] = (
    "nothing is lost", "what was not synced is empty", "names that were not synced are undone",
)  # fmt: skip
_NAMES = ("rename", "remove", "mkdir", "rmdir", "symlink", "link", "truncate", "chmod")
_WATCHED = {"open", *(f"os.{name}" for name in _NAMES)}
_WRITING = os.O_WRONLY | os.O_RDWR


class Gone(BaseException):
    """Say that there is no power: nothing catches it, and nothing is written after it."""


class Power:
    """Watch the calls of a process below a folder; from the one on that is told, each fails and does nothing."""

    def __init__(self) -> None:
        self.root = ""
        self.left = 0
        self.dirty: set[str] = set()
        self.renames: list[tuple[str, str, str | None]] = []  # from, to, where a copy of what was there is kept
        sys.addaudithook(self._hear)
        os.fsync = self._fsync  # type: ignore[assignment]  # nobody gives it anything but a number

    def run(self, work: Callable[[], object], root: Path, steps: int, damage: Damage) -> bool:
        """Work until the power goes at the `steps`-th call; gives whether the work came to its end before that."""
        self.left, self.dirty, self.renames, self.root = steps, set(), [], str(root)
        try:
            work()
            return True
        except Gone:
            self.root = ""
            if damage != DAMAGES[0]:
                self._empty()
            if damage == DAMAGES[2]:
                self._undo()
            return False
        finally:
            self.root = ""

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.root or event not in _WATCHED or not str(args[0]).startswith(self.root):
            return
        if event == "open" and not args[2] & _WRITING:
            return
        self._step()
        if event == "open":
            self.dirty.add(str(args[0]))
        elif event == "os.rename":
            self._moved(str(args[0]), str(args[1]))

    def _fsync(self, descriptor: int) -> None:
        # Without the real one, which takes long: the kernel stays up.
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if self.root and path.startswith(self.root):
            self._step()
            self.dirty.discard(path)
            self.renames = [one for one in self.renames if os.path.dirname(one[1]) != path]

    def _step(self) -> None:
        self.left -= 1
        if self.left <= 0:
            raise Gone

    def _moved(self, source: str, target: str) -> None:
        root, self.root = self.root, ""
        kept = None
        if os.path.islink(target) or os.path.isfile(target):
            kept = f"{target}.before"
            if os.path.lexists(kept):
                os.unlink(kept)
            os.link(target, kept, follow_symlinks=False)
        self.renames.append((source, target, kept))
        self.dirty = {target if name == source else name for name in self.dirty}
        self.root = root

    def _empty(self) -> None:
        for name in self.dirty:
            if os.path.isfile(name) and not os.path.islink(name):
                os.truncate(name, 0)

    def _undo(self) -> None:
        for source, target, kept in reversed(self.renames):
            if os.path.lexists(target) and not os.path.lexists(source):
                os.rename(target, source)
                if kept is not None:
                    os.rename(kept, target)


def in_a_process_of_its_own(work: Callable[[Power], None]) -> None:
    """Do what needs a `Power` in a forked process: what hears of every call can't be taken away again."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work(Power())
            code = 0
        except BaseException:  # noqa: BLE001 - the process boundary
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
