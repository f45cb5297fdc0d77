"""Who calls, and what that caller may do."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import translate
from math import inf
from typing import Final, Literal

from ferryman.server.data.gate.rates import Limit

Kind = Literal["anonymous", "key", "jwt", "certificate"]
Scope = Literal["infer", "read", "admin"]
Action = Literal["infer", "read", "control"]

SCOPES: Final[tuple[Scope, ...]] = ("infer", "read", "admin")
SCOPE_OF: Final[dict[Action, Scope]] = {"infer": "infer", "read": "read", "control": "admin"}


@dataclass(frozen=True, slots=True)
class Caller:
    """Name who calls, as logs and limits do: `key:web`, `jwt:alice`, `certificate:cam-3`, `anonymous`."""

    id: str
    kind: Kind


ANONYMOUS: Final = Caller("anonymous", "anonymous")


class Models:
    """Match model names against patterns as in a shell: `street-*`; `*` is every model."""

    __slots__ = ("_exact", "_match", "are_all", "patterns")

    def __init__(self, patterns: Sequence[str]) -> None:
        self.patterns = tuple(patterns)
        self.are_all = "*" in self.patterns
        self._exact = frozenset(self.patterns)  # most patterns are plain names, which need no search
        self._match = re.compile("|".join(translate(pattern) for pattern in self.patterns) or "(?!)").match

    def __contains__(self, model: str) -> bool:
        return self.are_all or model in self._exact or self._match(model) is not None


ALL_MODELS: Final = Models(("*",))


@dataclass(frozen=True, slots=True)
class Grant:
    """Hold what one caller may do, until when (Unix time), and how often."""

    caller: Caller
    scopes: frozenset[str]
    models: Models = ALL_MODELS
    limit: Limit | None = None
    expires_s: float = inf


def sticky_name(caller: Caller | None) -> str:
    """Give what keeps a caller on one side of a canary; nothing for those who don't say who they are."""
    return "" if caller is None or caller.kind == "anonymous" else caller.id
