"""Look at engines that are built on this device: which can be, why others can't, and those that are kept."""

from ferryman.core.engine import device_runtimes
from ferryman.core.engine_cache import describe_engines, engines_folder
from ferryman.core.errors import FerrymanError
from ferryman.core.plugins import Plugin


def describe_devices() -> dict[str, str]:
    """Say for each kind of engine whether it can be built here, and on what; and where engines are kept."""
    said = {plugin.name: _describe(plugin) for plugin in device_runtimes()}
    return {**said, "kept": describe_engines(engines_folder())}


def _describe(plugin: Plugin) -> str:
    try:
        about = plugin.require()().identity()
    except FerrymanError as error:
        return f"can't be built here: {error}" + (f" ({error.hint})" if error.hint else "")
    except Exception as error:  # noqa: BLE001 - a vendor's package may fail in any way, and that is the finding
        return f"can't be built here: {type(error).__name__}: {error}"
    return (
        f"can be built here: {about.pop('device', 'this device')} ({', '.join(f'{k} {v}' for k, v in about.items())})"
    )
