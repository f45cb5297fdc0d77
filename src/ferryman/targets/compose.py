"""Compose: one host with docker or podman; several copies behind a front change without losing a request."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from ferryman.core.errors import ConfigError, DeployError
from ferryman.core.progress import Progress
from ferryman.core.target import Change, Files, Landing, Standing, TargetSection
from ferryman.targets.compare import compare_files
from ferryman.targets.compose_file import (
    COMPOSE,
    FRONT,
    FRONT_CONFIG,
    SERVER,
    SPARE_S,
    Choices,
    compose_file,
    front_config,
    project,
)
from ferryman.targets.folder import read_files, write_folder
from ferryman.targets.polling import until
from ferryman.targets.program import find_program, run_program
from ferryman.targets.yaml import write_yaml

_CALL_S = 120.0
_PULL_S = 1800.0
_SEEN_S = 3.0  # the front looks names up each second and asks each copy twice a second: then it has seen the new ones
_HINT = "install Docker with its compose plug-in, or docker-compose with podman's socket in DOCKER_HOST"
_OURS = (COMPOSE, FRONT_CONFIG)
_SECRETS = ("keys", "jwt", "client_rights")


class Compose(TargetSection):
    """Run on one host with docker compose, or podman through its socket."""

    name: ClassVar[str] = "compose"
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""

    address: Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:]+\]|[0-9.]+):\d+$")] = Field(
        "127.0.0.1:8080", description="Where the host listens."
    )
    replicas: Annotated[int, Field(ge=1, le=16)] = Field(1, description="Copies; more than one need a front.")
    front: str = Field(
        "", description="Image with HAProxy 2.4 or later, to divide requests between copies; then updates lose none."
    )
    keys: str = Field("", description="API keys (`ferryman keys`): the file's path on that host.")
    jwt: str = Field("", description="The file for --jwt: its path on that host.")
    client_rights: str = Field("", description="The file for --client-rights: its path on that host.")
    unready_s: Annotated[int, Field(ge=1, le=3600)] = Field(
        5, description="After SIGTERM, still answer while the front notices."
    )
    drain_s: Annotated[int, Field(ge=1, le=3600)] = Field(25, description="After that, the time to finish.")
    wait_s: Annotated[float, Field(gt=0)] = Field(180.0, description="How long `apply` waits until all copies answer.")
    options: tuple[str, ...] = Field((), description="More options of `ferryman serve`.")
    env: dict[str, str] = Field(default_factory=dict, description="More environment variables.")
    folder: str = Field("", description="Where the files are kept; in the user's data folder by default.")
    host: str = Field("", description="The engine's address (DOCKER_HOST); the usual one by default.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.replicas > 1 and not self.front:
            raise ValueError('replicas over 1 need front = "an image with HAProxy": one port is one container\'s')
        return self

    def render(self, landing: Landing) -> Files:
        """Give the Compose file, and the front's configuration."""
        secrets = {name: getattr(self, name) for name in _SECRETS if getattr(self, name)}
        said = [word for name in secrets for word in (f"--{name.replace('_', '-')}", f"/run/secrets/{name}")]
        threads = ["--threads", str(landing.threads)] if landing.threads else []
        times = ["--unready-s", str(self.unready_s), "--drain-s", str(self.drain_s)]
        files = {FRONT_CONFIG: front_config()} if self.front else {}
        choices = Choices(
            serve=["serve", *times, *threads, *said, *self.options], files=secrets, env=self.env, address=self.address,
            grace_s=self.unready_s + self.drain_s, replicas=self.replicas, front=self.front,
        )  # fmt: skip
        whole = compose_file(landing, choices)
        if self.front:  # a change of its configuration makes another container, as a change of its image does
            digest = hashlib.sha256(files[FRONT_CONFIG].encode()).hexdigest()
            whole["services"][FRONT]["labels"] = {"ferryman/config": digest}
        return {COMPOSE: write_yaml(whole), **files}

    def apply(self, landing: Landing, *, dry_run: bool, progress: Progress) -> list[Change]:
        """Write the files and bring the containers up; with a front, new copies answer before old ones leave."""
        folder, wanted = self._folder(landing.name), self.render(landing)
        before, running = read_files(folder, _OURS), self._containers(landing.name)
        changes = compare_files(before, wanted)
        servers = [one for one in running if one["Service"] == SERVER and one["State"] == "running"]
        # More of them, or older ones, are what an apply that was broken off has left.
        is_whole = [one["Image"] for one in servers] == [landing.image] * self.replicas
        if not is_whole or self._front_trouble(running):
            changes.append(Change("change" if servers else "create", "containers"))
        if dry_run or all(change.move == "keep" for change in changes):
            return changes
        write_folder(folder, wanted)
        for stale in before.keys() - wanted.keys():
            (folder / stale).unlink(missing_ok=True)
        if self.front and servers and before:
            self._roll(landing.name, [one["ID"] for one in servers], before, progress)
        else:
            progress(f"starting {landing.name}")
            self._compose(landing.name, "up", "--detach", "--remove-orphans", limit_s=_PULL_S)
        until(lambda: self.status(landing.name), limit_s=self.wait_s, name=landing.name, progress=progress)
        return changes

    def status(self, name: str) -> Standing:
        """Tell how many copies are healthy."""
        everything = self._containers(name)
        found = [one for one in everything if one["Service"] == SERVER]
        front = self._front_trouble(everything) if found else []
        ready = [one for one in found if one["State"] == "running" and one.get("Health") in ("healthy", "")]
        notes = [*front, *(f"{one['Name']}: {one['Status']}" for one in found if one not in ready)]
        image = found[0]["Image"] if found else ""
        return Standing(name, bool(found), 0 if front else len(ready), max(len(found), 1), image, tuple(notes))

    def logs(self, name: str, *, lines: int) -> Iterator[str]:
        """Yield the last lines of every container."""
        yield from self._compose(name, "logs", "--no-color", "--tail", str(lines)).splitlines()

    def remove(self, name: str, *, dry_run: bool, progress: Progress) -> list[Change]:
        """Stop and remove the project's containers and network, and the files."""
        folder = self._folder(name)
        changes = [Change("remove", f"container {one['Name']}") for one in self._containers(name)]
        changes += [Change("remove", str(folder / file)) for file in read_files(folder, _OURS)]
        if not dry_run and changes:
            progress(f"stopping {name}")
            self._compose(name, "down", "--remove-orphans")
            for file in _OURS:
                (folder / file).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not empty: what else lies there is the user's
                folder.rmdir()
        return changes

    def _roll(self, name: str, old: list[str], before: Files, progress: Progress) -> None:
        """Start as many new copies beside the old ones, wait until they answer, and let the old ones go.

        Where they don't, they go instead, and the files from before are back.
        """
        progress(f"starting new copies of {name}")
        try:
            self._compose(name, "up", "--detach", "--no-deps", FRONT, limit_s=_PULL_S)
            both = f"{SERVER}={len(old) + self.replicas}"
            words = ("up", "--detach", "--no-deps", "--no-recreate", "--scale", both, SERVER)
            self._compose(name, *words, limit_s=_PULL_S)
            until(lambda: self._new(name, old), limit_s=self.wait_s, name=name, progress=progress)
        except DeployError:
            write_folder(self._folder(name), before)
            self._let_go([one["ID"] for one in self._containers(name) if self._is_new(one, old)])
            raise
        progress(f"letting old copies of {name} go")
        time.sleep(_SEEN_S)
        self._let_go(old)

    def _let_go(self, containers: list[str]) -> None:
        """End these containers, each in its own time. Compose itself would choose which."""
        if not containers:
            return
        engine = find_program("docker", "podman", hint=_HINT)
        grace_s = self.unready_s + self.drain_s + SPARE_S
        run_program([engine, "stop", "-t", str(grace_s), *containers], limit_s=_CALL_S + grace_s, variables=self._where)
        run_program([engine, "rm", *containers], limit_s=_CALL_S, variables=self._where)

    def _front_trouble(self, containers: list[dict[str, Any]]) -> list[str]:  # JSON
        if not self.front:
            return []
        fronts = [one for one in containers if one["Service"] == FRONT]
        if not fronts:
            return [f"{FRONT}: not there"]
        return [f"{one['Name']}: {one['Status']}" for one in fronts if one["State"] != "running"]

    @staticmethod
    def _is_new(one: dict[str, Any], old: list[str]) -> bool:  # JSON
        return one["Service"] == SERVER and one["ID"] not in old

    def _new(self, name: str, old: list[str]) -> Standing:
        found = [one for one in self._containers(name) if self._is_new(one, old)]
        ready = [one for one in found if one.get("Health") == "healthy"]
        notes = tuple(f"{one['Name']}: {one['Status']}" for one in found if one not in ready)
        return Standing(name, bool(found), len(ready), self.replicas, notes=notes)

    def _containers(self, name: str) -> list[dict[str, Any]]:  # JSON
        text = self._compose(name, "ps", "--all", "--no-trunc", "--format", "json")
        lines = [json.loads(line) for line in text.splitlines() if line.strip()]
        found = [one for line in lines for one in (line if isinstance(line, list) else [line])]
        return sorted(found, key=lambda one: str(one["Name"]))

    def _compose(self, name: str, *words: str, limit_s: float = _CALL_S) -> str:
        program = find_program("docker-compose", "docker", hint=_HINT)
        head = [program] if Path(program).name == "docker-compose" else [program, "compose"]
        file = self._folder(name) / COMPOSE
        where = ["--file", str(file)] if file.is_file() else []
        command = [*head, "--project-name", project(name), *where, *words]
        grace_s = self.unready_s + self.drain_s
        return run_program(command, limit_s=limit_s + grace_s, variables=self._where)

    @property
    def _where(self) -> dict[str, str]:
        return {"DOCKER_HOST": self.host} if self.host else {}

    def _folder(self, name: str) -> Path:
        if self.folder:
            return Path(self.folder).expanduser() / name
        home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
        folder = Path(home) / "ferryman" / "compose" / name
        if not folder.is_absolute():
            raise ConfigError(f"{folder} is no absolute path", hint='set folder = "/..." in the target\'s section')
        return folder
