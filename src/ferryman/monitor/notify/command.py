"""A program of the operator's own."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from ferryman.core.receivers import CommandSection
from ferryman.monitor.alerts.alert import Notice
from ferryman.monitor.notify.payload import webhook_body
from ferryman.monitor.notify.receiver import Undelivered

_ALWAYS = ("PATH", "HOME", "LANG")


@dataclass(frozen=True)
class Command:
    """Run a program for each notice, with what a webhook would get on its standard input."""

    name: str
    section: CommandSection
    environment: Mapping[str, str]
    instance: str

    def send(self, notice: Notice) -> None:
        """Wait for exit code 0; over the time limit it is killed with all that it started."""
        body = json.dumps(webhook_body(notice, self.name, self.instance)).encode()
        program = self.section.command[0]
        given = {key: self.environment[key] for key in self._variables() if key in self.environment}
        try:
            process = subprocess.Popen(  # noqa: S603  the operator's own words, without a shell
                self.section.command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env=given, start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            raise Undelivered(f"{program} can't be started: {getattr(error, 'strerror', None) or error}") from None
        try:
            process.communicate(body, timeout=self.section.timeout_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise Undelivered(f"{program} took longer than {self.section.timeout_s:g} s") from None
        if process.returncode != 0:
            raise Undelivered(f"{program} ended with exit code {process.returncode}")

    def _variables(self) -> tuple[str, ...]:
        return (*_ALWAYS, *self.section.environment)
