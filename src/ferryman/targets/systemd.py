"""systemd: the bundle as a hardened service of this host, behind a socket that outlives its restarts."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from ferryman.core.errors import ConfigError, DeployError
from ferryman.core.progress import Progress
from ferryman.core.service_manager import NOT_READY
from ferryman.core.target import Change, Files, Landing, Standing, TargetSection
from ferryman.targets.compare import compare_files
from ferryman.targets.folder import write_folder
from ferryman.targets.program import find_program, run_program
from ferryman.targets.systemd_units import Choices, service_unit, socket_unit, unit_name

_UNITS = Path("/etc/systemd/system")
_CALL_S = 60.0
_LAST_LINES = 8
_LOOK_S = 0.2
_SHOWN = ("LoadState", "ActiveState", "SubState", "Result", "NRestarts", "StatusText", "InvocationID")
_ENDED = ("auto-restart", "failed", "dead")
_SHORT = 16  # hex digits of a bundle's digest, as its folder is called
_SECRETS = ("keys", "jwt", "client_rights")
_HINT = "the systemd target works on the host that serves, as root; `ferryman deploy render` gives the units"


class Systemd(TargetSection):
    """Run on this host as a systemd service, from the bundle's own files."""

    name: ClassVar[str] = "systemd"
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""

    address: Annotated[str, Field(pattern=r"^((\[[0-9a-fA-F:]+\]|[0-9.]+):)?\d+$")] = Field(
        "127.0.0.1:8080", description="Where the socket listens."
    )
    program: Annotated[str, Field(pattern=r"^/")] = Field(
        "/opt/ferryman/bin/ferryman", description="Ferryman's program on that host; not below /home or /root."
    )
    folder: Annotated[str, Field(pattern=r"^/")] = Field(
        "/var/lib/ferryman", description="Where bundles are put, a folder for each model and version."
    )
    keys: str = Field("", description="API keys (`ferryman keys`): the file's path on that host.")
    jwt: str = Field("", description="The file for --jwt: its path on that host.")
    client_rights: str = Field("", description="The file for --client-rights: its path on that host.")
    drain_s: Annotated[int, Field(ge=1, le=3600)] = Field(30, description="Time to finish what was taken, at a stop.")
    start_s: Annotated[int, Field(ge=1, le=3600)] = Field(
        120, description="Longest time until the golden samples are answered right."
    )
    network: bool = Field(False, description="Let it out: traces, keys from a URL.")
    devices: tuple[str, ...] = Field((), description="Devices that it may use: /dev/nvidia0 ...")
    options: tuple[str, ...] = Field((), description="More options of `ferryman serve`.")
    env: dict[str, str] = Field(default_factory=dict, description="More environment variables.")

    def render(self, landing: Landing) -> Files:
        """Give the service and its socket."""
        secrets = {name: getattr(self, name) for name in _SECRETS if getattr(self, name)}
        said = [word for name in secrets for word in (f"--{name.replace('_', '-')}", f"%d/{name}")]
        threads = ["--threads", str(landing.threads)] if landing.threads else []
        place = f"{self.folder}/{landing.name}/{landing.digest[:_SHORT]}"
        head = [
            self.program,
            "serve",
            place,
            "--host",
            "systemd",
            "--admin-port",
            "off",
            "--drain-s",
            str(self.drain_s),
        ]
        unit = unit_name(landing.name)
        choices = Choices(
            command=[*head, *threads, *said, *self.options], credentials=secrets, env=self.env, devices=self.devices,
            has_network=self.network, drain_s=self.drain_s, start_s=self.start_s,
        )  # fmt: skip
        service = service_unit(landing, choices)
        return {f"{unit}.service": service, f"{unit}.socket": socket_unit(landing, self.address)}

    def apply(self, landing: Landing, *, dry_run: bool, progress: Progress) -> list[Change]:
        """Put bundle and units in place and restart the service; callers wait at the socket meanwhile.

        A service that doesn't start goes back to the units from before.
        """
        if landing.folder is None:
            raise ConfigError("the systemd target carries a bundle's files", hint="name the bundle, not only an image")
        before, wanted = self._units(landing.name), self.render(landing)
        changes = compare_files(before, wanted)
        place = Path(self.folder) / landing.name / landing.digest[:_SHORT]
        if not place.is_dir():
            changes.insert(0, Change("create", str(place)))
        if not self.status(landing.name).is_ready:
            changes.append(Change("create", "service"))
        if dry_run or all(change.move == "keep" for change in changes):
            return changes
        _put(landing.folder, place)
        write_folder(_UNITS, wanted)
        progress(f"starting {landing.name}")
        try:
            self._start(landing.name, has_new_socket=_differs(before, wanted, ".socket"))
        except DeployError as error:
            self._back(landing.name, before, wanted)
            said = "\n".join(self.logs(landing.name, lines=_LAST_LINES))
            raise DeployError(f"{error}\n{said}", hint="the units from before are back in place") from None
        self._tidy(place)
        return changes

    def status(self, name: str) -> Standing:
        """Tell what systemd says of the service."""
        facts = self._facts(name)
        is_active = facts.get("ActiveState") == "active"
        if facts.get("LoadState") != "loaded":
            return Standing(name, False, 0, 1)
        note = f"{facts.get('ActiveState')} ({facts.get('SubState')}), {facts.get('NRestarts')} restarts"
        return Standing(name, True, int(is_active), 1, notes=(note,) if not is_active else ())

    def logs(self, name: str, *, lines: int) -> Iterator[str]:
        """Yield the journal's last lines."""
        program = find_program("journalctl", hint=_HINT)
        words = [program, "--unit", f"{unit_name(name)}.service", "--lines", str(lines), "--no-pager", "--output=cat"]
        yield from run_program(words, limit_s=_CALL_S).splitlines()

    def remove(self, name: str, *, dry_run: bool, progress: Progress) -> list[Change]:
        """Stop and disable both units, and take them and the bundles away."""
        place = Path(self.folder) / name
        units = self._units(name)
        changes = [Change("remove", str(_UNITS / unit)) for unit in units]
        changes += [Change("remove", str(place))] if place.is_dir() else []
        if dry_run or not changes:
            return changes
        progress(f"stopping {name}")
        if units:
            self._systemctl("disable", "--now", *reversed(units), limit_s=_CALL_S + self.drain_s)
            for unit in units:
                (_UNITS / unit).unlink(missing_ok=True)
            self._systemctl("daemon-reload")
        shutil.rmtree(place, ignore_errors=True)
        return changes

    def _start(self, name: str, *, has_new_socket: bool) -> None:
        unit = unit_name(name)
        self._systemctl("daemon-reload")
        self._systemctl("enable", f"{unit}.service", f"{unit}.socket")
        if has_new_socket:  # another address: who waits at the old one is let go
            self._systemctl("stop", f"{unit}.service", f"{unit}.socket", limit_s=_CALL_S + self.drain_s)
        self._systemctl("start", f"{unit}.socket")
        before = self._facts(name).get("InvocationID", "")
        self._systemctl("restart", "--no-block", f"{unit}.service")
        self._wait_for_start(name, before)

    def _wait_for_start(self, name: str, before: str) -> None:
        """Return when another invocation than the one `before` is ready; raises DeployError at the first that fails.

        systemd itself would try again for ever, and callers would wait as long.
        """
        limit_s = _CALL_S + self.drain_s + self.start_s
        end_s = time.monotonic() + limit_s
        while time.monotonic() < end_s:
            facts = self._facts(name)
            if facts.get("InvocationID", "") != before:
                if facts.get("ActiveState") == "active":
                    return
                if facts.get("SubState") in _ENDED or facts.get("NRestarts", "0") != "0":
                    raise DeployError(f"{name} doesn't start: {facts.get('Result')}", hint="its last words say why")
                if (said := facts.get("StatusText", "")).startswith(NOT_READY):
                    raise DeployError(f"{name} is {said}", hint="its bundle isn't fit for this host")
            time.sleep(_LOOK_S)
        raise DeployError(f"{name} doesn't start within {limit_s:g} s", hint="its last words say why")

    def _back(self, name: str, before: Files, wanted: Files) -> None:
        if not before:
            self._systemctl("stop", f"{unit_name(name)}.service", limit_s=_CALL_S + self.drain_s)
            return
        write_folder(_UNITS, before)
        self._start(name, has_new_socket=_differs(before, wanted, ".socket"))

    def _tidy(self, place: Path) -> None:
        """Keep this bundle and the one from before; others go."""
        others = [folder for folder in place.parent.iterdir() if folder.is_dir() and folder != place]
        for folder in sorted(others, key=lambda one: one.stat().st_mtime)[:-1]:
            shutil.rmtree(folder, ignore_errors=True)

    def _units(self, name: str) -> dict[str, str]:
        unit = unit_name(name)
        files = (_UNITS / f"{unit}{suffix}" for suffix in (".service", ".socket"))
        return {file.name: file.read_text(encoding="utf-8") for file in files if file.is_file()}

    def _facts(self, name: str) -> dict[str, str]:
        text = self._systemctl("show", f"{unit_name(name)}.service", f"--property={','.join(_SHOWN)}")
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def _systemctl(self, *words: str, limit_s: float = _CALL_S) -> str:
        return run_program([find_program("systemctl", hint=_HINT), *words], limit_s=limit_s)


def _differs(before: Files, wanted: Files, suffix: str) -> bool:
    return any(name.endswith(suffix) and name in before and before[name] != wanted[name] for name in wanted)


def _put(bundle: Path, place: Path) -> None:
    """Copy a bundle whole or not at all; any service may read it, and none may write."""
    if place.is_dir():
        return
    unfinished = place.with_name(f".{place.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(bundle, unfinished)
    for path in [place.parent, unfinished, *unfinished.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    unfinished.replace(place)
