"""Write Terraform's own language (HCL): blocks and attributes in the order that is given, as `terraform fmt` would."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_TEMPLATE = re.compile(r"([$%])(?=\{)")
_STEP = "  "


class Expression(str):
    """Be text that stands in the file as it is: a reference such as `aws_sagemaker_model.model.name`, a call."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Block:
    """Hold one block: `kind "label" { attributes, then inner blocks }`.

    Attributes are JSON values or Expressions, at any depth; those that are None are left out.
    """

    kind: str
    labels: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)  # JSON values, Expressions
    blocks: tuple["Block", ...] = ()


def write_terraform(blocks: Iterable[Block]) -> str:
    """Give the text of a .tf file, with an empty line between blocks."""
    return "\n".join("".join(f"{line}\n" for line in _lines(block)) for block in blocks)


def write_value(value: Any) -> str:  # a JSON value or an Expression
    """Give a value as HCL; raises ValueError for a number that is none."""
    if isinstance(value, Expression):
        return str(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, Mapping):
        return "\n".join(["{", *_indented(_attributes(value, is_object=True)), "}"]) if value else "{}"
    if isinstance(value, Sequence):
        return _list(value)
    return json.dumps(value, allow_nan=False)


def _lines(block: Block) -> Iterator[str]:
    head = " ".join([block.kind, *(_quoted(label) for label in block.labels)])
    said = {key: value for key, value in block.attributes.items() if value is not None}
    if not said and not block.blocks:
        yield head + " {}"
        return
    yield head + " {"
    yield from _indented(_attributes(said))
    for index, inner in enumerate(block.blocks):
        if said or index:
            yield ""
        yield from _indented(_lines(inner))
    yield "}"


def _attributes(values: Mapping[str, Any], *, is_object: bool = False) -> Iterator[str]:
    """Yield the lines of attributes; the signs of equality of those on neighbouring lines stand in a column."""
    written = [(_key(key) if is_object else key, write_value(value)) for key, value in values.items()]
    for index, (key, text) in enumerate(written):
        width = 0 if "\n" in text else max(len(other) for other, _ in _neighbours(written, index))
        yield from f"{key:<{width}} = {text}".split("\n")


def _neighbours(written: Sequence[tuple[str, str]], index: int) -> list[tuple[str, str]]:
    first = last = index
    while first > 0 and "\n" not in written[first - 1][1]:
        first -= 1
    while last + 1 < len(written) and "\n" not in written[last + 1][1]:
        last += 1
    return list(written[first : last + 1])


def _list(values: Sequence[Any]) -> str:
    texts = [write_value(value) for value in values]
    if not any("\n" in text for text in texts) and sum(map(len, texts)) < 80:
        return f"[{', '.join(texts)}]"
    inner = [line for text in texts for line in f"{text},".split("\n")]
    return "\n".join(["[", *_indented(inner), "]"])


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"{_STEP}{line}" if line else "" for line in lines)


def _key(key: str) -> str:
    return key if isinstance(key, Expression) or _IDENTIFIER.fullmatch(key) else _quoted(key)


def _quoted(text: str) -> str:
    """Quote text so that nothing in it is a template; JSON knows escapes that HCL doesn't, and pairs for one sign."""
    return '"' + "".join(_sign(sign) for sign in _TEMPLATE.sub(r"\1\1", text)) + '"'


def _sign(sign: str) -> str:
    if sign in '"\\':
        return f"\\{sign}"
    if sign in "\n\r\t":
        return {"\n": r"\n", "\r": r"\r", "\t": r"\t"}[sign]
    if " " <= sign <= "~":
        return sign
    return f"\\u{ord(sign):04x}" if ord(sign) < 0x10000 else f"\\U{ord(sign):08x}"
