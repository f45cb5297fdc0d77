"""The clouds' targets without what they need: the way to get it is told before anything else."""

import sys
from typing import Any

import pytest

from ferryman.core.errors import MissingExtra
from ferryman.core.progress import silent
from tests.targets.making import target

NEEDED = {
    "sagemaker": "boto3", "vertex": "googleapiclient", "cloudrun": "googleapiclient", "aca": "azure.identity",
    "azureml": "msal",
}  # fmt: skip
SECTIONS: dict[str, dict[str, Any]] = {"sagemaker": {"region": "eu-central-1"}}  # TOML


@pytest.mark.parametrize("kind", NEEDED)
def test_a_missing_extra_is_told_with_the_command_that_adds_it(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, NEEDED[kind], None)
    one = target(kind, **SECTIONS.get(kind, {}))
    asked = (
        lambda: one.status("street"),
        lambda: list(one.logs("street", lines=1)),
        lambda: one.remove("street", dry_run=True, progress=silent),
    )
    for ask in asked:
        with pytest.raises(MissingExtra) as refused:
            ask()
        assert f"ferryman[{one.extra}]" in refused.value.hint
