"""How an online endpoint takes a new deployment: beside the old one without traffic, then with its share."""

from dataclasses import dataclass

from ferryman.core.errors import DeployError
from ferryman.core.target import Change
from ferryman.targets.azure.app_objects import OWNER
from ferryman.targets.azure.arm import Arm
from ferryman.targets.compare import compare_text
from ferryman.targets.shares import divided, share_lines
from ferryman.targets.wanted import Json, compare_json, like

_LAST_LINES = 12


@dataclass(frozen=True)
class Wanted:
    """Hold what is wanted: the environment's version, the endpoint, the deployment's name and body, its percent."""

    version: str
    environment: Json
    endpoint: Json
    name: str
    deployment: Json
    percent: int


@dataclass(frozen=True)
class Online:
    """Be one online endpoint with its deployments, there or not."""

    arm: Arm
    workspace: str
    name: str

    @property
    def id(self) -> str:
        """Give the endpoint's resource id."""
        return f"{self.workspace}/onlineEndpoints/{self.name}"

    def environment(self, version: str) -> str:
        """Give the resource id of the environment's version."""
        return f"{self.workspace}/environments/{self.name}/versions/{version}"

    def read(self) -> Json | None:
        """Give the endpoint; raises DeployError where somebody else made it."""
        found = self.arm.find(self.id, f"endpoint {self.name}")
        if found is not None and found.get("tags", {}).get(OWNER) != "ferryman":
            raise DeployError(
                f"endpoint {self.name} is not one of ferryman's",
                hint='set service = "another-name" in the target\'s section',
            )
        return found

    def deployments(self) -> dict[str, Json]:
        """Give its deployments by name."""
        return {one["name"]: one for one in self.arm.items(f"{self.id}/deployments", f"deployments of {self.name}")}

    def put(self, body: Json) -> None:
        """Make the endpoint, or change it."""
        self.arm.change("PUT", self.id, body, f"endpoint {self.name}")

    def deploy(self, name: str, body: Json, *, method: str = "PUT") -> None:
        """Make a deployment and wait until it answers, or change its number of machines (PATCH)."""
        self.arm.change(method, f"{self.id}/deployments/{name}", body, f"deployment {name}")

    def drop(self, name: str) -> None:
        """Take a deployment and its machines away."""
        self.arm.change("DELETE", f"{self.id}/deployments/{name}", None, f"deployment {name}")

    def log(self, name: str, lines: int) -> list[str]:
        """Give the last lines that a deployment's server has written."""
        asked = {"containerType": "InferenceServer", "tail": lines}
        said = self.arm.ask(f"{self.id}/deployments/{name}/getLogs", asked, f"logs of {name}")
        return str(said.get("content") or "").splitlines()


def shares(live: Json | None) -> dict[str, int]:
    """Give the percent of the requests that each deployment answers."""
    found = (live or {}).get("properties", {}).get("traffic") or {}
    return {name: value for name, value in found.items() if value}


def roll_out(online: Online, wanted: Wanted, *, dry_run: bool) -> list[Change]:
    """Bring environment, endpoint and deployment to what is wanted; what fails leaves the traffic where it was."""
    live = online.read()
    there = online.deployments() if live else {}
    where = online.environment(wanted.version)
    is_known = online.arm.find(where, f"environment {online.name}") is not None
    here = there.get(wanted.name)
    now = shares(live)
    then = divided(now, wanted.name, wanted.percent)
    title = f"environment {online.name}:{wanted.version}"
    changes = [
        Change("keep", title) if is_known else compare_json(title, None, wanted.environment),
        compare_json(f"endpoint {online.name}", live, wanted.endpoint),
        compare_json(
            f"deployment {wanted.name}", here, {"sku": wanted.deployment["sku"]} if here else wanted.deployment
        ),
        compare_text("traffic", share_lines(now) if live else None, share_lines(then)),
        *(Change("remove", f"deployment {name}") for name in _idle(there, then)),
    ]
    if dry_run or all(change.move == "keep" and _is_whole(here) for change in changes):
        return changes
    if not is_known:
        online.arm.progress(f"registering {title}")
        online.arm.change("PUT", where, wanted.environment, title)
    if live is None or like(live, wanted.endpoint) != wanted.endpoint:
        online.arm.progress(f"setting endpoint {online.name}")
        online.put(_with_traffic(live, wanted.endpoint, now))
    _bring(online, wanted, here)
    _shift(online, wanted.endpoint, then)
    return changes


def _sku(wanted: Wanted) -> Json:
    """Give what may change of a deployment: its name stands for all the rest."""
    return {"sku": wanted.deployment["sku"]}


def _bring(online: Online, wanted: Wanted, here: Json | None) -> None:
    if here is not None and _is_whole(here):
        if like(here["sku"], wanted.deployment["sku"]) != wanted.deployment["sku"]:
            online.arm.progress(f"scaling deployment {wanted.name}")
            online.deploy(wanted.name, _sku(wanted), method="PATCH")
        return
    online.arm.progress(f"starting deployment {wanted.name}")
    try:
        online.deploy(wanted.name, wanted.deployment)
    except DeployError as error:
        if here is not None:  # an earlier try, which may have traffic: it is left for who looks into it
            raise
        said = _last_words(online, wanted.name)
        raise DeployError("\n".join([str(error), *said]), hint=error.hint) from None


def _last_words(online: Online, name: str) -> list[str]:
    """Give what a failed deployment's server has written, and take it away; where that can't be, say why."""
    try:
        lines = online.log(name, _LAST_LINES) if name in online.deployments() else []
        online.drop(name)
    except DeployError as error:
        return [str(error)]
    return [f"  {line}" for line in lines]


def _shift(online: Online, endpoint: Json, then: dict[str, int]) -> None:
    live = online.read()
    if shares(live) != then:
        online.arm.progress("giving the new deployment its share")
        online.put(_with_traffic(live, endpoint, then))
    for name in _idle(online.deployments(), then):
        online.arm.progress(f"removing deployment {name}")
        online.drop(name)


def _idle(deployments: dict[str, Json], then: dict[str, int]) -> list[str]:
    """Give those of ours that get no share; what others have put there stays."""
    ours = [name for name, one in deployments.items() if (one.get("tags") or {}).get(OWNER) == "ferryman"]
    return [name for name in ours if name not in then]


def _with_traffic(live: Json | None, endpoint: Json, traffic: dict[str, int]) -> Json:
    """Give the endpoint for a PUT, which replaces: with the tags that others have set, and its traffic."""
    tags = {**(live or {}).get("tags", {}), **endpoint["tags"]}
    return {**endpoint, "tags": tags, "properties": {**endpoint["properties"], "traffic": traffic}}


def _is_whole(deployment: Json | None) -> bool:
    return deployment is not None and deployment["properties"].get("provisioningState") == "Succeeded"
