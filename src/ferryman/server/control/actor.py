"""What alerts do to those who answer: roll back, freeze; by the same ways as `ferryman rollout`."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from ferryman.core.errors import FerrymanError, NotFound
from ferryman.server.control.repository import Repository
from ferryman.server.control.rollout import Rollouts
from ferryman.server.data.dataplane import Dataplane

_MOST_TOLD = 500
_log = logging.getLogger("ferryman.server")

Json = dict[str, Any]  # what the watch says and hears


class Actor:
    """Do what the watch orders, each order once; use it from the loop.

    Orders come again until their end is heard. One that was done before this server started is found done: each says
    what should no longer be so, not what to change.
    """

    def __init__(self, rollouts: Rollouts, repository: Repository, plane: Dataplane) -> None:
        self._rollouts, self._repository, self._plane = rollouts, repository, plane
        self._ends: dict[str, Json] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def take(self, orders: Sequence[Mapping[str, Any]]) -> list[Json]:
        """Begin what is new, and give the ends of those orders that are over."""
        for order in orders:
            if order["id"] not in self._ends and order["id"] not in self._tasks:
                self._tasks[order["id"]] = asyncio.create_task(self._do(order))
        return [self._ends[order["id"]] for order in orders if order["id"] in self._ends]

    async def close(self) -> None:
        """Leave what is under way: the next server is told again."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _do(self, order: Mapping[str, Any]) -> None:
        why = f"alert: {order['why']} (action {order['id']})"
        try:
            if order["do"] == "freeze":
                end = await self._freeze(order["model"], why)
            else:
                end = await self._roll_back(order, why)
        except FerrymanError as error:
            end = ("failed", f"{error}; {error.hint}" if error.hint else str(error))
        except Exception as error:  # noqa: BLE001 - an order that fails must not stop those after it
            _log.exception("action %s failed", order["id"])
            end = ("failed", f"{type(error).__name__}; the server's log says more")
        finally:
            del self._tasks[order["id"]]
        if end is not None:
            told = {"id": order["id"], "outcome": end[0], "said": end[1]}
            self._ends = {**dict(list(self._ends.items())[-_MOST_TOLD:]), order["id"]: told}

    async def _freeze(self, model: str, why: str) -> tuple[str, str] | None:
        """Pause the running rollout; None while it is loading, which is tried again."""
        record = self._record(model)
        if record is None or record["phase"] not in ("loading", "shadow", "canary"):
            return "skipped", f"no rollout of '{model}' is running"
        if record["phase"] == "loading":
            return None
        said = f"the rollout to {record['candidate']} stays where it is until ferryman rollout resume {model}"
        if not record["is_paused"]:
            await self._rollouts.pause(model, why)
        return "done", said

    async def _roll_back(self, order: Mapping[str, Any], why: str) -> tuple[str, str]:
        model, version, active = order["model"], order["version"], self._plane.active(order["model"])
        record = self._record(model)
        if record is not None and record["phase"] in ("loading", "shadow", "canary"):
            if record["candidate"] == version:
                await self._rollouts.back(model, why)
                return "done", f"the rollout to version {version} was ended; version {record['stable']} answers"
            if active == version:
                return "skipped", f"a rollout from this version to {record['candidate']} is running: it may be the cure"
        if active != version:
            return "done", f"version {version} answers no more; version {active} does"
        return await self._return(order, record, why)

    async def _return(self, order: Mapping[str, Any], record: Json | None, why: str) -> tuple[str, str]:
        """Serve the version from before again: what a rollout replaced, else the next lower in the repository."""
        model, version, refused = order["model"], order["version"], []
        editions = self._repository.shelf.ranked(model)
        place = next((at for at, edition in enumerate(editions) if edition.version == version), len(editions))
        before = [edition for edition in editions[place + 1 :] if edition.digest != order["digest"]]
        is_promoted = record is not None and record["phase"] == "promoted" and record["candidate"] == version
        if record is not None and is_promoted:
            before.sort(key=lambda edition: edition.version != record["stable"])
            known = self._repository.shelf.find(model, record["stable"])
            if known is not None and known not in before:
                before.insert(0, known)
        for edition in before:
            if edition.digest in order["not_to"]:
                refused.append(f"version {edition.version} was rolled back itself")
                continue
            try:
                if record is not None and is_promoted and edition.version == record["stable"]:
                    await self._rollouts.back(model, why)
                else:
                    await self._repository.activate(model, edition.version, keep_old=False)
            except FerrymanError as error:
                refused.append(f"version {edition.version}: {error}")
                continue
            _log.warning("model '%s': version %s took the place of %s: %s", model, edition.version, version, why)
            return "done", f"version {edition.version} answers instead of {version}"
        return "failed", "; ".join([f"there is no version to go back to from {version}", *refused])

    def _record(self, model: str) -> Json | None:
        try:
            return self._rollouts.status(model)[0]
        except NotFound:
            return None
