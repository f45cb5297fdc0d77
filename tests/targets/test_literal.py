"""A user's text reaches the container as it is, whatever variables the platform would put into it."""

import re
from typing import Any

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from ferryman.targets.literal import literal
from tests.targets.making import render

ODD = "50% $HOME $(ONE) $$(ONE) a$$b $"


def expanded(text: str) -> str:
    """Do as Kubernetes does with values and arguments: $$ is a dollar, $(NAME) of a known name its value."""
    return re.sub(r"\$(\$|\(ONE\))", lambda found: "$" if found[1] == "$" else "1", text)


@given(st.text(alphabet="$()ONE a"))
@example(ODD)
def test_what_is_expanded_is_the_users_text(text: str) -> None:
    assert expanded(literal(text)) == text


def test_text_without_variables_stays_readable() -> None:
    assert literal("50% $HOME (ONE)") == "50% $HOME (ONE)"


def test_environment_and_options_are_the_users_text_in_a_cluster_and_for_podman() -> None:
    section: dict[str, Any] = {"env": {"TWO": ODD}, "options": ["--cors", ODD]}  # TOML
    for kind, more, read in (
        ("kubernetes", {}, expanded), ("kserve", {}, expanded), ("kubernetes", {"form": "podman"}, str),
    ):  # fmt: skip
        container = next(
            found
            for text in render(kind, section | more).values()
            for document in yaml.safe_load_all(text)
            for found in containers(document)
        )
        assert read(container["args"][-1]) == ODD
        assert read(next(one["value"] for one in container["env"] if one["name"] == "TWO")) == ODD


def containers(found: Any) -> list[dict[str, Any]]:  # YAML
    """Give every container of a document that has arguments."""
    if isinstance(found, list):
        return [one for part in found for one in containers(part)]
    if not isinstance(found, dict):
        return []
    return (
        [found] if "args" in found and "env" in found else [one for part in found.values() for one in containers(part)]
    )
