"""YAML as it is written is read back as it was."""

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ferryman.targets.yaml import Written, write_yaml

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e6, 1e6) | _texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(_values)
def test_every_value_is_read_back_as_it_was(value: Any) -> None:
    assert yaml.safe_load(write_yaml({"value": value})) == {"value": value}


@pytest.mark.parametrize(
    "word", ["yes", "Off", "null", "~", "1e3", "0x1f", "12:30:45", "2026-11-23", "- a", "a: b", ""]
)
def test_text_that_looks_like_something_else_stays_text(word: str) -> None:
    assert yaml.safe_load(write_yaml([word])) == [word]


def test_documents_are_divided_and_keep_their_order() -> None:
    text = write_yaml({"b": 1, "a": [{"c": 2, "d": []}]}, {"e": "line\nand line\n"})
    assert text == "b: 1\na:\n  - c: 2\n    d: []\n---\ne: |\n  line\n  and line\n"
    assert list(yaml.safe_load_all(text)) == [{"b": 1, "a": [{"c": 2, "d": []}]}, {"e": "line\nand line\n"}]


def test_an_expression_stands_as_it_is() -> None:
    assert write_yaml({"image": Written("{{ .Values.image | toJson }}")}) == "image: {{ .Values.image | toJson }}\n"
