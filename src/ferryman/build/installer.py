"""Put a toolchain's pinned packages into its folder with pip and npm, and see that they are there."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferryman.core.errors import FerrymanError
from ferryman.core.progress import Progress
from ferryman.core.toolchain import Toolchain, find_toolchain

_LAST_LINES = 15
_NEWS = ("Collecting ", "Installing collected", "Downloading ", "Building ", "added ")
_FREEZE = (
    "import importlib.metadata as m, json, sys; here = sys.argv[1]; "
    "print(json.dumps({d.name: d.version for d in m.distributions(path=[p for p in sys.path if p.startswith(here)])}))"
)
# Where packages come from may be set by the user; where they go to, and which are left out, may not.
_PIP_KEPT = re.compile(
    r"(EXTRA_)?INDEX_URL|FIND_LINKS|NO_INDEX|TRUSTED_HOST|(CLIENT_)?CERT|PROXY|KEYRING_PROVIDER|CONFIG_FILE|"
    r"(NO_)?CACHE_DIR|(DEFAULT_)?TIMEOUT|(ONLY|NO|PREFER)_BINARY|DISABLE_PIP_VERSION_CHECK|USE_(FEATURE|DEPRECATED)"
)
_NPM_KEPT = re.compile(
    r"//.*|@.*|.*registry|(user|global)config|ca|cafile|cert|key|(https?_|no)?proxy|strict_ssl|cache|"
    r"(prefer_)?offline|fetch_.*|maxsockets|_auth.*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Installer:
    """Install one toolchain; `held` is the descriptor of its lock, which lives as long as what is started here."""

    toolchain: Toolchain
    log: Path
    progress: Progress
    held: int

    def install(self) -> dict[str, str]:
        """Fill the folder, and give what it holds of its own; raises FerrymanError unless every pin is there."""
        toolchain = self.toolchain
        terms = f" of packages under {toolchain.license}" if toolchain.license else ""
        self.progress(f"{toolchain.name}: making the environment{terms}")
        self._run([sys.executable, "-m", "venv", str(toolchain.folder)])
        if toolchain.base:
            _see(toolchain, find_toolchain(toolchain.base))
        words = [*self._pip, "--progress-bar", "off", "--retries", "5", *self._constraints]
        if toolchain.python:
            self._run([*words, *toolchain.python])
        if toolchain.bare:
            self._run([*words, "--no-deps", *toolchain.bare])
        if toolchain.node:
            self._install_node()
        python = self._list_python()
        self._check_python(python)
        return python | self._list_node()

    @property
    def _pip(self) -> list[str]:
        return [str(self.toolchain.interpreter), "-m", "pip", "install", "--no-input"]

    @property
    def _constraints(self) -> list[str]:
        return ["-c", str(self.toolchain.lock)] if self.toolchain.lock else []

    def _install_node(self) -> None:
        npm = shutil.which("npm")
        if npm is None:
            raise FerrymanError(
                f"the toolchain '{self.toolchain.name}' needs npm, which is not installed", hint="install Node"
            )
        folder, lock = self.toolchain.folder, self.toolchain.node_lock
        asked = {"private": True, "dependencies": node_pins(self.toolchain)}
        (folder / "package.json").write_text(json.dumps(asked), encoding="utf-8")
        if lock:
            shutil.copyfile(lock, folder / "package-lock.json")
        verb = "ci" if lock else "install"  # npm ci installs just what the lock says, and checks each digest
        self._run([npm, verb, "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund"])

    def _list_python(self) -> dict[str, str]:
        """Give its own packages, without those of its base."""
        words = [str(self.toolchain.interpreter), "-I", "-c", _FREEZE, str(self.toolchain.folder)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 - its own Python
        if done.returncode:
            told = f"the new environment's Python doesn't run: {done.stderr[-500:]}"
            raise FerrymanError(told, hint=f"see {self.log}")
        packages: dict[str, str] = json.loads(done.stdout)
        return packages

    def _check_python(self, own: dict[str, str]) -> None:
        """Raise unless all pins are met here or in the base, and all that came along is as the lock has it."""
        wanted = [*self.toolchain.python, *self.toolchain.bare, *own]
        # Without an index or a setting, what pip would install is what is not there.
        words = [*self._pip, "--dry-run", "--no-deps", "--no-index", *self._constraints, *wanted]
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PIP_"))}
        env = kept | {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=env)  # noqa: S603 - its own pip
        if done.returncode:
            told = re.findall(r"No matching distribution found for (.+)", done.stderr)
            raise self._absent(told[0].strip() if told else done.stderr.strip()[-500:], "pip config list")

    def _list_node(self) -> dict[str, str]:
        """Give all that npm installed, each by its place: one name may be there in several versions."""
        if not self.toolchain.node:
            return {}
        there: dict[str, Any] = {}
        with suppress(FileNotFoundError):
            text = (self.toolchain.folder / "node_modules" / ".package-lock.json").read_text(encoding="utf-8")
            there = json.loads(text)["packages"]
        packages = {place: str(one["version"]) for place, one in there.items() if "version" in one}
        for name, version in node_pins(self.toolchain).items():
            if packages.get(f"node_modules/{name}") != version:
                raise self._absent(f"{name}@{version}", "npm config list")
        return packages

    def _absent(self, pin: str, shows: str) -> FerrymanError:
        return FerrymanError(
            f"the toolchain '{self.toolchain.name}' was installed, but {pin} is not in {self.toolchain.folder}",
            hint=f"a setting may send packages elsewhere or leave some out; `{shows}` shows it; the log: {self.log}",
        )

    def _run(self, words: list[str]) -> None:
        with self.log.open("a", encoding="utf-8") as kept:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter or npm, and pinned names
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
                pass_fds=(self.held,),  # should we be killed, nobody begins anew below an installer that goes on
                env=_environment(),
            )
            try:
                assert process.stdout is not None  # noqa: S101 - it was asked for
                with process.stdout:
                    for line in process.stdout:
                        kept.write(line)
                        if line.startswith(_NEWS):
                            self.progress(f"{self.toolchain.name}: {line.strip():.80}")
                process.wait()
            except BaseException:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise
        if process.returncode:
            raise self._failure()

    def _failure(self) -> FerrymanError:
        lines = [line for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        text = "\n  ".join(lines[-_LAST_LINES:])
        if "No space left on device" in text:
            return no_space(self.toolchain)
        hint = f"{self.toolchain.hint}; " if self.toolchain.hint else ""
        return FerrymanError(
            f"the toolchain '{self.toolchain.name}' can't be installed; the last lines:\n  {text}",
            hint=f"{hint}run it again to go on (what was downloaded is kept); the whole log: {self.log}",
        )


def node_pins(toolchain: Toolchain) -> dict[str, str]:
    """Give the version of each npm package that a toolchain pins itself."""
    return {name: version for name, _, version in (pin.rpartition("@") for pin in toolchain.node)}


def no_space(toolchain: Toolchain) -> FerrymanError:
    """Give the error that says how much is free and how much it takes."""
    folder = toolchain.folder.parent
    free_mb = shutil.disk_usage(folder).free / 1e6
    about = f", it takes about {toolchain.expected_mb} MB" if toolchain.expected_mb else ""
    return FerrymanError(
        f"no space for the toolchain '{toolchain.name}' in {folder}: {free_mb:.0f} MB are free{about}",
        hint="free some space, or set FERRYMAN_TOOLCHAINS to a folder on a larger disk",
    )


def _see(toolchain: Toolchain, base: Toolchain) -> None:
    """Let a toolchain see its base's packages, after its own."""
    own = next((toolchain.folder / "lib").glob("python*/site-packages"))
    under = next((base.folder / "lib").glob("python*/site-packages"))
    lines = [str(under)]
    deeper = under / "ferryman-base.pth"  # a .pth file that a .pth file leads to is not read
    if deeper.exists():
        lines += deeper.read_text(encoding="utf-8").splitlines()
    (own / "ferryman-base.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _environment() -> dict[str, str]:
    """Give ours, without what would have the installers put packages elsewhere or leave some out."""
    return {key: value for key, value in os.environ.items() if not _misleads(key)}


def _misleads(key: str) -> bool:
    if key.startswith("PIP_"):
        return not _PIP_KEPT.fullmatch(key.removeprefix("PIP_"))
    if key.lower().startswith("npm_config_"):
        return not _NPM_KEPT.fullmatch(key[len("npm_config_") :])
    return key.startswith("PYTHON")
