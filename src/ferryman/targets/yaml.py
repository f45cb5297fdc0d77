"""Write YAML: the few forms that every reader agrees on, in the order that is given."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# A word that no YAML reader takes for anything but text: no sign with a meaning, no number, no yes, no or null.
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*(:[A-Za-z0-9_./@-]+)*(@sha256:[0-9a-f]{64})?")
_MEANT = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
_PAIR = re.compile(r"\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}")  # how JSON escapes those
_STEP = "  "


class Written(str):
    """Be text that stands in the file as it is: an expression of a template language."""

    __slots__ = ()


def write_yaml(*documents: Any) -> str:  # JSON values
    """Give YAML 1.1 of JSON values, with a --- between documents; mappings keep their order."""
    return "---\n".join("".join(f"{line}\n" for line in _lines(document)) for document in documents)


def _lines(value: Any) -> Iterator[str]:
    """Yield the lines of a block; a mapping or list that holds something goes over several."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _entry(_scalar(key) + ":", inner, _STEP)
    elif isinstance(value, Sequence) and not isinstance(value, str) and value:
        for inner in value:
            lines = list(_lines(inner))
            yield f"- {lines[0]}"
            yield from (f"{_STEP}{line}" for line in lines[1:])
    else:
        yield _scalar(value)


def _entry(head: str, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, str) and not isinstance(value, Written) and _is_block(value):
        yield f"{head} |"
        yield from (f"{indent}{line}" if line else "" for line in value.removesuffix("\n").split("\n"))
        return
    lines = list(_lines(value))
    if isinstance(value, Mapping | list | tuple) and value:
        yield head
        yield from (f"{indent}{line}" for line in lines)
    else:
        yield f"{head} {lines[0]}"


def _is_block(text: str) -> bool:
    """Tell text of several plain lines, which reads best as it is, from what must be quoted."""
    lines = text.split("\n")
    clean = all(line.isprintable() and line == line.rstrip() for line in lines)
    return len(lines) > 2 and clean and lines[-1] == "" and lines[-2] != "" and lines[0][:1] not in ("", " ")


def _scalar(value: Any) -> str:
    if isinstance(value, Written):
        return str(value)
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _MEANT:
        return value
    if isinstance(value, float):
        mantissa, is_long, exponent = repr(value).partition("e")  # 1e-05 is text to a reader of YAML 1.1
        return f"{mantissa}{'' if '.' in mantissa else '.0'}{is_long}{exponent}"
    text = json.dumps(value, ensure_ascii=True, allow_nan=False)  # JSON is YAML, but for signs beyond 16 bits
    return _PAIR.sub(_whole_sign, text)


def _whole_sign(pair: re.Match[str]) -> str:
    sign: str = json.loads('"' + pair[0] + '"')
    return f"\\U{ord(sign):08x}"
