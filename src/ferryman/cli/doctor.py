"""`ferryman doctor`: look at this machine."""

import argparse
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

from ferryman import __version__, api
from ferryman.cli.devices import describe_devices
from ferryman.cli.machine import describe_cache, describe_cores, describe_cpu, describe_disk, describe_memory
from ferryman.cli.options import add_json
from ferryman.cli.output import has_color, write_json, write_text
from ferryman.cli.packages import framework_versions, load_core
from ferryman.verify.columns import Paint
from ferryman.verify.figures import plain

Found = Mapping[str, Mapping[str, str | list[str]]]
EXAMPLE = "ferryman doctor --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take nothing but the form of the answer."""
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print what was found; 1 where a package of the core doesn't load."""
    cache = Path(api.config()["FERRYMAN_CACHE"] or ".ferryman")
    machine = {
        "ferryman": __version__, "python": f"{platform.python_version()} {sys.executable}", "cpu": describe_cpu(),
        "cores": describe_cores(), "memory": describe_memory(), "disk": describe_disk(cache),
        "cache": describe_cache(cache),
    }  # fmt: skip
    core, frameworks = load_core(), framework_versions()
    missing: dict[str, list[str]] = {}
    for plugin in api.installed():
        if not plugin.is_available:
            missing.setdefault(plugin.install_command, []).append(f"{plugin.kind[:-1]} {plugin.name}")
    is_sound = all(state[0].isdigit() for state in core.values())
    found: Found = {
        "machine": machine,
        "core": core,
        "frameworks": frameworks,
        "engines of this device": describe_devices(),
        "missing": missing,
        "broken": api.broken(),
    }
    if args.json:
        write_json({"sound": is_sound, **found})
    else:
        write_text(_render(found, is_sound, Paint(has_color(sys.stdout))))
    return 0 if is_sound else 1


def _render(found: Found, is_sound: bool, paint: Paint) -> str:
    lines: list[str] = []
    for title, facts in found.items():
        lines += [paint(title, "cyan")] if facts else []
        longest = max(map(len, facts), default=0)
        for name, value in facts.items():
            shown = plain(", ".join(value) if isinstance(value, list) else value)
            style = "red" if shown.startswith("BROKEN") else "dim" if shown == "not installed" else ""
            lines.append(f"  {plain(name):<{longest}}  {paint(shown, style)}")
    verdict = paint("✓ the core works", "green") if is_sound else paint("✗ the core is broken", "red")
    return "\n".join([*lines, verdict]) + "\n"
