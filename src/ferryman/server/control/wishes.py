"""What the operator wants of each model's versions, kept over a restart."""

from collections.abc import Sequence

from ferryman.server.control.crew import Choices
from ferryman.server.control.shelf import Edition


class Wishes:
    """Say which version should be the active one, and which should run beside it."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices

    def rank(self, name: str, editions: Sequence[Edition]) -> list[Edition]:
        """Put a model's editions, the highest first, in the order in which they should serve it.

        The chosen one goes first; what is wanted beside another version goes last.
        """
        chosen, beside = self.chosen(name), self.beside(name)
        return sorted(editions, key=lambda edition: (edition.version != chosen, edition.version in beside))

    def chosen(self, name: str) -> str | None:
        """Give the version that somebody chose; None where the highest serves."""
        version: str | None = self._choices.get(f"active/{name}")
        return version

    def beside(self, name: str) -> list[str]:
        """Give the versions that are wanted beside the active one."""
        return list(self._choices.get(f"beside/{name}") or [])

    async def choose(self, name: str, version: str | None) -> None:
        """Want a version to be the active one (None: the highest); raises FerrymanError where that can't be kept."""
        if version != self.chosen(name):
            await self._choices.put(f"active/{name}", version)
        await self._put_beside(name, [known for known in self.beside(name) if known != version])

    async def add(self, name: str, version: str) -> None:
        """Want a version beside the active one; raises as `choose`."""
        if self.chosen(name) == version:
            await self.choose(name, None)
        await self._put_beside(name, [*(known for known in self.beside(name) if known != version), version])

    async def drop(self, name: str, version: str | None) -> None:
        """Want a version no more, or none beside the active one; raises as `choose`."""
        if version is not None and self.chosen(name) == version:
            await self.choose(name, None)
        await self._put_beside(name, [known for known in self.beside(name) if version not in (None, known)])

    async def _put_beside(self, name: str, versions: list[str]) -> None:
        if versions != self.beside(name):
            await self._choices.put(f"beside/{name}", versions or None)
