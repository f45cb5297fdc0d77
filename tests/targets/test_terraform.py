"""The writer of Terraform's language: what an independent parser reads, and how it looks."""

from typing import Any

import hcl2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferryman.targets.terraform import Block, Expression, write_terraform, write_value

_WORDS = ("for", "in", "if", "else", "endif", "endfor", "true", "false", "null")
_KEYS = st.from_regex(r"\A[a-z][a-z_]{0,8}\Z").filter(lambda key: str(key) not in _WORDS)
_TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.from_regex(r"\A[a-z_]{1,8}\Z"), inner, max_size=3),
    max_leaves=8,
)


def test_it_looks_as_terraform_would_format_it() -> None:
    inner = Block("primary_container", attributes={"image": "x:1"})
    model = {"name": "street", "execution_role_arn": Expression("var.role"), "tags": {"a b": 1, "team": "v"}, "z": None}
    text = write_terraform([Block("resource", ("aws_model", "m"), model, (inner, Block("empty"))), Block("locals")])
    assert text == (
        'resource "aws_model" "m" {\n'
        '  name               = "street"\n'
        "  execution_role_arn = var.role\n"
        "  tags = {\n"
        '    "a b" = 1\n'
        '    team  = "v"\n'
        "  }\n"
        "\n"
        "  primary_container {\n"
        '    image = "x:1"\n'
        "  }\n"
        "\n"
        "  empty {}\n"
        "}\n"
        "\n"
        "locals {}\n"
    )


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("${a} %{b} $ {c}", '"$${a} %%{b} $ {c}"'),
        ('a "b" \\', '"a \\"b\\" \\\\"'),
        ("a\nb\tc\r", '"a\\nb\\tc\\r"'),
        ("é\x00\U0001f600", '"\\u00e9\\u0000\\U0001f600"'),
    ],
)
def test_nothing_in_a_text_is_a_template_or_ends_it(text: str, written: str) -> None:
    assert write_value(text) == written


def test_a_list_that_is_long_or_holds_tables_goes_over_several_lines() -> None:
    assert write_value(["a", 1, True]) == '["a", 1, true]'
    assert write_value(["a" * 50, "b" * 50]) == f'[\n  "{"a" * 50}",\n  "{"b" * 50}",\n]'
    assert write_value([{"a": 1}]) == "[\n  {\n    a = 1\n  },\n]"


def test_a_number_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_value(float("nan"))


@given(st.dictionaries(_KEYS, _VALUES, max_size=4))
def test_whatever_the_values_are_a_parser_reads_blocks_and_keys(values: dict[str, Any]) -> None:
    [block] = hcl2.loads(write_terraform([Block("resource", ("kind", "name"), values)]))["resource"]
    [kind] = block.values()
    [found] = kind.values()
    assert {key for key in found if not key.startswith("__")} == {key for key in values if values[key] is not None}
