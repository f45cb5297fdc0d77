"""An `apply` that is killed after one of its commands: the next one brings what is wanted, once."""

from collections.abc import Callable
from typing import Any

import pytest

from ferryman.targets.azure.arm import Arm
from ferryman.targets.google.api import Api
from tests.targets import test_aca, test_azureml, test_cloudrun, test_vertex
from tests.targets.azure_cloud import Azure
from tests.targets.google_cloud import Cloud
from tests.targets.google_fixtures import NEXT, cloud
from tests.targets.making import OTHER
from tests.targets.test_aca import azure as apps
from tests.targets.test_azureml import azure as learning

__all__ = ["apps", "cloud", "learning"]  # fixtures


class Killed(BaseException):
    """End an `apply` as a signal would."""


def kill_after(monkeypatch: pytest.MonkeyPatch, commands: int) -> None:
    """Let the client's side end once the cloud has taken so many commands."""
    left = [commands]

    def ending(send: Callable[..., Any], is_command: Callable[..., bool]) -> Callable[..., Any]:
        def sent(*call: Any) -> Any:
            answer = send(*call)
            left[0] -= is_command(*call)
            if not left[0]:
                raise Killed
            return answer

        return sent

    monkeypatch.setattr(Api, "call", ending(Api.call, lambda _, request, __: request.method != "GET"))
    monkeypatch.setattr(Arm, "_send", ending(Arm._send, lambda _, method, *__: method != "GET"))


@pytest.mark.parametrize(
    ("kind", "place", "commands"),
    [
        *(("vertex", "cloud", number) for number in (1, 2, 3, 4)),
        *(("cloudrun", "cloud", number) for number in (1, 2)),
        *(("aca", "apps", number) for number in (1, 2, 3)),
        *(("azureml", "learning", number) for number in (1, 2, 3, 4)),
    ],
)
def test_what_is_broken_off_is_brought_to_its_end_by_the_next_apply(
    kind: str, place: str, commands: int, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    there: Cloud | Azure = request.getfixturevalue(place)
    one: Any = {"vertex": test_vertex, "cloudrun": test_cloudrun, "aca": test_aca, "azureml": test_azureml}[kind]
    new = NEXT if place == "cloud" else OTHER
    one.put(there)
    with monkeypatch.context() as patch:
        kill_after(patch, commands)
        with pytest.raises(Killed):
            one.put(there, new)
    there.finish()  # the clouds go on with what they were told
    one.put(there, new)
    assert one.traffic(there) == {"c": 100}, "all requests go there, and nothing of the old one is left"
    assert {move for move, _ in one.put(there, new)} == {"keep"}
