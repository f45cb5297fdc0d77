"""Write a Dockerfile and what it copies, for those who build their images with Docker's own tools."""

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ferryman.bundle.swap import staged_folder
from ferryman.core.artifact import files_of
from ferryman.core.bundle import Bundle
from ferryman.core.errors import ConfigError
from ferryman.oci.image import ImageConfig
from ferryman.package.packages import HOME, own_entries
from ferryman.package.wheel import Wheel

FILE = "Dockerfile"
_FIRST = "# Written by ferryman package --dockerfile; it is written anew, so change a copy."
_LOCK = "requirements.txt"
_WHEELS = "wheels"
_TEXT = """\
{first}
ARG BASE={base}
FROM ${{BASE}} AS packages
ARG PIP_INDEX_URL
ARG PIP_CERT
COPY {lock} /build/
COPY {wheels}/ /build/{wheels}/
RUN ["{python}", "-m", "pip", "install", "--no-cache-dir", "--no-compile", "--no-deps", "--only-binary=:all:", \
"--require-hashes", {source}"--target", "/{home}", "-r", "/build/{lock}"]

FROM ${{BASE}}
COPY --from=packages /{home} /{home}
COPY bundle/ /bundle/
{config}
"""


def write_dockerfile(
    folder: Path, bundle: Bundle, config: ImageConfig, *, base: str, wheels: Sequence[Wheel], offline: bool
) -> Path:
    """Write the folder for `podman build` or `docker build` in one step; raises ConfigError where it is somebody's.

    The packages are locked by version and digest. `offline` puts their wheels there too: no network is needed then.
    """
    _refuse_foreign(folder)
    own = own_wheel()
    with staged_folder(folder.resolve()) as staged:
        (staged / _WHEELS).mkdir()
        (staged / _WHEELS / own[0]).write_bytes(own[1])
        for wheel in wheels if offline else ():
            shutil.copyfile(wheel.path, staged / _WHEELS / wheel.path.name)
        for file in files_of(bundle.path):
            target = staged / "bundle" / file.relative_to(bundle.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        (staged / _LOCK).write_text(_locked(wheels, own), encoding="utf-8")
        (staged / ".dockerignore").write_text(f"*\n!{_LOCK}\n!{_WHEELS}\n!bundle\n", encoding="utf-8")
        (staged / FILE).write_text(_dockerfile(config, base, offline=offline), encoding="utf-8")
    return folder / FILE


def own_wheel() -> tuple[str, bytes]:
    """Give ferryman as a wheel, made of its files as they run here: its name and bytes, the same on each run."""
    stream = io.BytesIO()
    entries = own_entries(compiled=False)
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in sorted(entries, key=lambda entry: entry.name):
            archive.writestr(zipfile.ZipInfo(entry.name.removeprefix(f"{HOME}/")), entry.content or b"")  # type: ignore[arg-type]  # bytes, from own_entries
    home = next(entry.name for entry in entries if entry.name.endswith("/RECORD")).split("/")[-2]
    return f"{home.removesuffix('.dist-info')}-py3-none-any.whl", stream.getvalue()


def _locked(wheels: Iterable[Wheel], own: tuple[str, bytes]) -> str:
    by_name: dict[str, list[Wheel]] = {}
    for wheel in wheels:
        by_name.setdefault(wheel.name, []).append(wheel)
    lines = []
    for name, found in sorted(by_name.items()):
        digests = sorted({wheel.sha256 for wheel in found})
        lines.append(" \\\n    ".join([f"{name}=={found[0].version}", *(f"--hash=sha256:{one}" for one in digests)]))
    lines.append(f"/build/{_WHEELS}/{own[0]} --hash=sha256:{_sha256(own[1])}")
    return "\n".join(lines) + "\n"


def _dockerfile(config: ImageConfig, base: str, *, offline: bool) -> str:
    source = f'"--no-index", "--find-links", "/build/{_WHEELS}", ' if offline else ""
    return _TEXT.format(
        first=_FIRST, base=base, lock=_LOCK, wheels=_WHEELS, python=config.entrypoint[0], source=source, home=HOME,
        config="\n".join(_instructions(config)),
    )  # fmt: skip


def _instructions(config: ImageConfig) -> list[str]:
    """Say a config in a Dockerfile's words."""
    lines = [f"ENV {_pairs(config.env)}", f"LABEL {_pairs(config.labels)}"]
    lines += [f"EXPOSE {port}" for port in config.exposed]
    lines += [f"USER {config.user}", f"WORKDIR {config.working_dir}", f"STOPSIGNAL {config.stop_signal}"]
    if health := config.healthcheck:
        seconds = {word: health[key] // 1_000_000_000 for word, key in _HEALTH.items()}
        options = " ".join(f"--{word}={value}s" for word, value in seconds.items())
        lines.append(f"HEALTHCHECK {options} --retries={health['Retries']} CMD {json.dumps(health['Test'][1:])}")
    return [*lines, f"ENTRYPOINT {json.dumps(list(config.entrypoint))}", f"CMD {json.dumps(list(config.cmd))}"]


_HEALTH = {"interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod"}


def _pairs(table: Mapping[str, str]) -> str:
    return " \\\n    ".join(f"{key}={_quoted(value)}" for key, value in table.items())


def _quoted(text: str) -> str:
    if any(ord(sign) < 32 for sign in text):  # what follows a line's end would be an instruction
        raise ConfigError(
            f"a Dockerfile can't hold the label {text!r:.80}", hint="write it on one line and build again"
        )
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'


def _refuse_foreign(folder: Path) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    file = folder / FILE
    if not (file.is_file() and file.read_text(encoding="utf-8", errors="replace").startswith(_FIRST)):
        raise ConfigError(f"{folder} is there and was not written by this", hint="choose another place")


def _sha256(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()
