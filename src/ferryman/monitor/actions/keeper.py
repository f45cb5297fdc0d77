"""`python -m ferryman.monitor.actions.keeper FOLDER`: do one retraining, and write down how it ended."""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from ferryman.core.acting import ActionSection
from ferryman.core.durable import write_whole
from ferryman.core.scratch import try_lock
from ferryman.monitor.actions.action import Action
from ferryman.monitor.actions.job import run_job
from ferryman.monitor.actions.retraining import BEGUN, END, ORDER, OUTPUT
from ferryman.monitor.alerts.alert import rfc3339
from ferryman.monitor.notify.post import post
from ferryman.monitor.notify.receiver import Undelivered
from ferryman.monitor.notify.secret import authorization, read_address

_MOST_OUTPUT_BYTES = 10_000_000
_PARENT_DIES = 1  # PR_SET_PDEATHSIG of prctl(2)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0


def main(folder: Path) -> int:
    """Do what the order in a folder says, unless another keeper does or did; 0 where it ended well."""
    lock = try_lock(folder)
    if lock is None or (folder / END).exists() or (folder / BEGUN).exists():
        return 0
    (folder / BEGUN).touch()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)  # the watch ignores them
    order = json.loads((folder / ORDER).read_bytes())
    action, section = Action.from_json(order["action"]), ActionSection.model_validate_json(json.dumps(order["section"]))
    try:
        said = _do(folder, action, section)
        is_done = True
    except Undelivered as error:
        said, is_done = str(error), False
    except Exception as error:  # noqa: BLE001 - the boundary of a process
        said, is_done = f"{type(error).__name__}: {error}", False
    write_whole(folder / END, json.dumps({"is_done": is_done, "said": said}).encode())
    os.close(lock)
    return 0 if is_done else 1


def variables(action: Action, folder: Path) -> dict[str, str]:
    """Give what a retraining is told in its environment: the action, its cause, and where the records are."""
    cause = action.cause
    told = {
        "ID": action.id, "NAME": action.name, "MODEL": action.model, "VERSION": action.version,
        "DIGEST": action.digest, "RULE": cause.rule, "CAUSE": cause.summary,
        "VALUE": "" if cause.value is None else str(cause.value),
        "LIMIT": "" if cause.limit is None else str(cause.limit),
        "MONITOR": str(folder.parent.parent.parent),
    }  # fmt: skip
    return {f"FERRYMAN_ACTION_{name}": text for name, text in told.items()}


def _do(folder: Path, action: Action, section: ActionSection) -> str:
    given = variables(action, folder)
    if section.command is not None:
        return _run(section.command, {**os.environ, **given}, folder / OUTPUT, section.timeout_s)
    if section.job is not None:
        return run_job(section.job, action, given, timeout_s=section.timeout_s, environment=os.environ)
    return _post(section, action, os.environ)


def _run(command: tuple[str, ...], environment: Mapping[str, str], output: Path, timeout_s: float) -> str:
    """Run a program in a process group of its own; over the limit it is killed with all that it started."""
    begun_s = time.monotonic()
    try:
        process = subprocess.Popen(  # noqa: S603  the operator's own words, without a shell
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment,
            start_new_session=True, preexec_fn=_die_with_parent,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise Undelivered(f"{command[0]} can't be started: {getattr(error, 'strerror', None) or error}") from None
    assert process.stdout is not None  # noqa: S101 - asked for above
    reading = threading.Thread(target=_keep_output, args=(process.stdout, output), daemon=True)
    reading.start()
    try:
        code = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        raise Undelivered(f"{command[0]} took longer than {timeout_s:g} s; output: {output}") from None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # what it left running, too
        process.wait()
        reading.join(5.0)
        process.stdout.close()
    if code != 0:
        ended = f"exit code {code}" if code > 0 else f"signal {signal.Signals(-code).name}"
        raise Undelivered(f"{command[0]} ended with {ended}: {_last_line(output)}; output: {output}")
    return f"{command[0]} took {time.monotonic() - begun_s:.0f} s; output: {output}"


def _keep_output(stream: IO[bytes], output: Path) -> None:
    left = _MOST_OUTPUT_BYTES
    with output.open("ab", buffering=0) as kept:
        while part := os.read(stream.fileno(), 65536):  # read to the end: a program must not wait for its reader
            if left > 0:
                with contextlib.suppress(OSError):
                    kept.write(part[:left])
                if left <= len(part):
                    with contextlib.suppress(OSError):
                        kept.write(b"\n[more is not kept]\n")
            left -= len(part)


def _last_line(output: Path) -> str:
    with contextlib.suppress(OSError), output.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - 2000))
        lines = stream.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"
    return "it said nothing"


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PARENT_DIES, signal.SIGKILL)


def _post(section: ActionSection, action: Action, environment: Mapping[str, str]) -> str:
    """Post a CloudEvent until it is taken, with the action's id, by which a receiver knows one that comes twice."""
    until_s, pause_s = time.monotonic() + section.timeout_s, _FIRST_PAUSE_S
    event: dict[str, Any] = {  # JSON
        "specversion": "1.0", "id": action.id, "type": "ferryman.retrain", "source": f"ferryman/{action.model}",
        "subject": f"{action.model}/{action.version}", "time": rfc3339(action.began_s),
        "datacontenttype": "application/json", "data": action.to_json(),
    }  # fmt: skip
    while True:
        try:
            headers = {"Content-Type": "application/cloudevents+json", **authorization(section.token, environment)}
            post(read_address(section.url or "", environment), event, headers, min(30.0, section.timeout_s))
            return "it was taken; what becomes of it is told by whoever took it"
        except Undelivered as error:
            print(f"{rfc3339(time.time())} {error}", flush=True)  # noqa: T201 - the output that is kept
            if error.is_final or time.monotonic() + pause_s > until_s:
                raise
        time.sleep(pause_s)
        pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
