"""What a container's environment says of `ferryman serve`: options by their names, and what platforms set."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ferryman.client.health import PORTS, is_service_link
from ferryman.core.errors import UserError
from ferryman.server.data.v2.clouds import vertex_routes

_BUNDLE = "FERRYMAN_BUNDLE"
_MOUNTS = ("AZUREML_MODEL_DIR",)
_SAGEMAKER = Path("/opt/ml/model")
_NOT_OPTIONS = ("--help", "--json", "--debug")
_WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def take_environment(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    """Make variables the defaults of options, FERRYMAN_MAX_QUEUE that of --max-queue; raises UserError naming one.

    --port is AIP_HTTP_PORT's or PORT's, too, and the routes are Vertex AI's (AIP_HEALTH_ROUTE, AIP_PREDICT_ROUTE).
    """
    health, infer = vertex_routes(environment)
    platform = {
        "--port": {name: environment.get(name, "") for name in PORTS},
        "--health-route": {"AIP_HEALTH_ROUTE": health},
        "--infer-route": {"AIP_PREDICT_ROUTE": infer},
    }
    for action in parser._actions:  # argparse has no public list of them
        option = next((name for name in action.option_strings if name.startswith("--")), "")
        if not option or option in _NOT_OPTIONS:
            continue
        own = f"FERRYMAN_{option[2:].replace('-', '_').upper()}"
        for variable, value in {own: environment.get(own, ""), **platform.get(option, {})}.items():
            if value and not is_service_link(value):
                action.default = _read(action, variable, value)
                break


def find_bundles(environment: Mapping[str, str], *, sagemaker: Path = _SAGEMAKER) -> list[Path]:
    """Give the bundles that a platform has mounted, else the one in FERRYMAN_BUNDLE; raises UserError for none."""
    mounts = [Path(environment[name]) for name in _MOUNTS if environment.get(name)]
    for mount in (*mounts, sagemaker):
        if found := _bundles_in(mount):
            return found
    named = environment.get(_BUNDLE, "")
    if not named:
        raise UserError("there is nothing to serve", hint=f"ferryman serve BUNDLE, or set {_BUNDLE} to one")
    if not Path(named).exists():
        raise UserError(f"{_BUNDLE} is '{named}', and nothing is there", hint="mount a bundle there, or name another")
    return [Path(named)]


def _bundles_in(folder: Path) -> list[Path]:
    """Give the bundles at a place or up to two folders below, where clouds unpack what they were given."""
    if (folder / "bundle.json").is_file():
        return [folder]
    try:
        folders = [found.parent for depth in ("*", "*/*") for found in folder.glob(f"{depth}/bundle.json")]
        return sorted([*folders, *folder.glob("*.ferry"), *folder.glob("*/*.ferry")])
    except OSError:  # not ours to look into
        return []


def _read(action: argparse.Action, variable: str, value: str) -> Any:  # as the option's own
    try:
        if action.nargs == 0:
            return _WORDS[value.lower()]
        kind: Any = action.type or str  # a function from text
        read = [kind(part.strip()) for part in value.split(",")] if isinstance(action.default, list) else kind(value)
        if action.choices is not None and read not in action.choices:
            raise argparse.ArgumentTypeError(f"it is one of {', '.join(map(str, action.choices))}")
    except KeyError:
        raise UserError(f"{variable} is '{value}'", hint="give it 1 or 0") from None
    except (argparse.ArgumentTypeError, ValueError) as error:
        raise UserError(
            f"{variable} is '{value}': {error}", hint=f"it stands for {action.option_strings[-1]}"
        ) from None
    return read
