"""The protocol's model repository extension: what callers may ask of the repository, and in which words."""

from collections.abc import Mapping

from ferryman.core.errors import FerrymanError, InputError, NotFound, UserError
from ferryman.server.control.repository import Repository
from ferryman.server.control.state import StateNotWritten

_LOAD = ("version", "activate")
_UNLOAD = ("version", "unload_dependents")  # there are none


class Extension:
    """Do what callers ask, over HTTP and gRPC alike."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def index(self) -> list[dict[str, str]]:
        """List every version that is served, fails, or could be loaded, with its state and the reason."""
        return self._repository.index()

    async def load(self, name: str, parameters: Mapping[str, object]) -> None:
        """Load a model's newest version, or `version` (text), with `activate` false beside the active one.

        Raises NotFound, StateNotWritten, or UserError for all else that goes wrong.
        """
        _require_known(parameters, _LOAD)
        version, activate = _version(parameters), parameters.get("activate", True)
        if not isinstance(activate, bool) or (version is None and not activate):
            raise InputError("parameter 'activate' must be true, or false beside a 'version'")
        try:
            if version is None or activate:
                await self._repository.load(name, version)
            else:
                await self._repository.load_beside(name, version)
        except (NotFound, StateNotWritten):
            raise
        except FerrymanError as error:  # whatever it was: the caller asked for what can't be had
            raise UserError(f"failed to load '{name}': {error}", hint=error.hint) from error

    async def unload(self, name: str, parameters: Mapping[str, object]) -> None:
        """Let a model go, or its `version` (text); raises NotFound, StateNotWritten, InputError."""
        _require_known(parameters, _UNLOAD)
        await self._repository.unload(name, _version(parameters))


def _require_known(parameters: Mapping[str, object], known: tuple[str, ...]) -> None:
    if unknown := sorted(set(parameters) - set(known)):
        hint = f"known are {', '.join(known)}; how a bundle is served it says itself"
        raise InputError(f"parameter '{unknown[0]}' is not known", hint=hint)


def _version(parameters: Mapping[str, object]) -> str | None:
    version = parameters.get("version")
    if version is not None and not (isinstance(version, str) and version):
        raise InputError("parameter 'version' must be text")
    return version
