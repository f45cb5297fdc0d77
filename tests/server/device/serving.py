"""Serve bundles with engines of this device, and look at what became of them."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from tests.server.control.house import House, house, until


def words(here: House, version: str | None = None) -> str:
    """Give what the server says of the device's engine."""
    return here.plane.find("affine", version).device


@asynccontextmanager
async def served(path: Path, engine: str = "misbuilding", **settings: Any) -> AsyncIterator[House]:
    """Serve one bundle with engines of this device."""
    folder = path.parent / "engines"
    async with house([path], device_engine=engine, engines=folder, **settings) as here:
        yield here


async def settled(here: House, state: str) -> None:
    await until(lambda: f": {state}" in words(here))


def kept(path: Path) -> list[Path]:
    """List the engines that were kept for a bundle."""
    return sorted((path.parent / "engines").glob("[!.]*"))


async def again(here: House, state: str) -> None:
    """Unload the model and load it, as a start does."""
    if here.plane.active("affine"):
        await here.repository.unload("affine")
    await here.repository.load("affine")
    await settled(here, state)


async def gone(pid: int) -> None:
    await until(lambda: not is_alive(pid))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def left_behind(path: Path) -> list[Path]:
    return list((path.parent / "engines").glob(".making-*"))


def repository_of(folder: Path, **settings: Any) -> AbstractAsyncContextManager[House]:
    return house([folder / "repository"], device_engine="misbuilding", engines=folder / "engines", **settings)


def is_up(here: House) -> bool:
    return all(reason == "" for reason in here.states("affine").values())
