"""A retraining as the watch sees it: a folder with the order, the output, and in the end how it ended."""

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferryman.core.acting import ActionSection
from ferryman.core.durable import write_whole
from ferryman.core.scratch import try_lock
from ferryman.monitor.actions.action import Action, Outcome

ORDER, OUTPUT, END, BEGUN = "order.json", "output.log", "end.json", "begun"
_STARTING_S = 30.0


@dataclass(slots=True)
class Retraining:
    """Start the keeper (`ferryman.monitor.actions.keeper`) of one retraining, and look how it is.

    The keeper is a process of its own session: it outlives the watch, and the server. It locks the folder as long as it
    lives, so that of two only one works, and one that was killed is known.
    """

    folder: Path
    keeper: subprocess.Popen[bytes] | None = None

    @property
    def is_begun(self) -> bool:
        """Tell whether a keeper has taken it, ever."""
        return (self.folder / BEGUN).exists()

    def begin(self, action: Action, section: ActionSection) -> None:
        """Start a keeper where none has begun; raises OSError."""
        if (self.folder / ORDER).exists() and self._is_starting():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        order = {"action": action.to_json(), "section": section.model_dump(mode="json")}
        write_whole(self.folder / ORDER, json.dumps(order).encode())
        with (self.folder / OUTPUT).open("ab") as output:
            self.keeper = subprocess.Popen(  # noqa: S603  our own module
                [sys.executable, "-m", "ferryman.monitor.actions.keeper", str(self.folder)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    def look(self, now_s: float) -> tuple[Outcome, str] | None:
        """Give how it ended; None while it goes on, or has still to begin."""
        if self.keeper is not None:
            self.keeper.poll()  # else it would stay a zombie
        try:
            end: Any = json.loads((self.folder / END).read_bytes())  # JSON
            if self.keeper is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.keeper.wait(1.0)  # writing the end was its last deed
            return ("done" if end["is_done"] else "failed"), str(end["said"])
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            return "failed", f"{self.folder / END} can't be read: {error}"
        if not self.is_begun:
            return None
        descriptor = try_lock(self.folder)
        if descriptor is None:
            return None
        os.close(descriptor)
        if (self.folder / END).exists():  # it ended between the two looks
            return self.look(now_s)
        return "failed", f"it was killed; {self.folder / OUTPUT} says how far it came"

    def _is_starting(self) -> bool:
        """Tell whether a keeper was started a moment ago, and may not have come so far as to lock the folder."""
        return 0 <= _age_s(self.folder / ORDER) < _STARTING_S


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return float("inf")
