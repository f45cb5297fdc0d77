"""Write the page of formats from the plug-ins themselves: steps with their options, runtimes, toolchains."""

import inspect
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from ferryman.core.plugins import Plugin, is_served, plugins
from ferryman.core.toolchain import Toolchain, toolchains

_INTRODUCTION = """# Formats

What `ferryman build` makes. Of what is served the best is chosen: everything that takes no toolchain, or what
`build.candidates` names (`litert-int8`). A format that `build.formats` in `ferryman.toml` names is exported beside it,
verified in the same way, in the precision that the contract's `prefer` likes best of those that hold
(`build.candidates` may name one), and set side by side by `ferryman parity`. A step's options go into
`[build.options.STEP]`. What runs in a toolchain needs `ferryman toolchain add NAME` first; no build ever installs
anything.
"""


def formats_page(notice: str) -> str:
    """Write the page: formats, then steps, then toolchains."""
    made = sorted({plugin.cls.produces for plugin in plugins("steps").values()})
    parts = [notice, _INTRODUCTION, "\n".join(_formats(made)) + "\n", "## Steps\n"]
    parts += [_step(plugin) for plugin in plugins("steps").values()]
    parts += ["## Toolchains\n", "\n".join(_toolchains()) + "\n"]
    return "\n".join(parts)


def _formats(made: list[str]) -> Iterator[str]:
    yield "| format | made by | run by | served |"
    yield "|---|---|---|---|"
    for name in made:
        steps = ", ".join(f"`{p.name}`" for p in plugins("steps").values() if p.cls.produces == name)
        loaders = [p for p in plugins("runtimes").values() if name in p.cls.formats]
        runs = ", ".join(p.name + _where(p) for p in loaders) or "nothing here: on the device"
        yield f"| `{name}` | {steps} | {runs} | {'yes' if is_served(name) else 'no'} |"


def _where(plugin: Plugin) -> str:
    toolchain = getattr(plugin.cls, "toolchain", "")
    return f" (toolchain `{toolchain}`)" if toolchain else ""


def _step(plugin: Plugin) -> str:
    cls: Any = plugin.cls  # a Step's class
    takes = ", ".join(f"`{name}`" for name in sorted(cls.accepts))
    needs = getattr(cls, "toolchain", "")
    lines = [f"### {plugin.name}\n", f"{plugin.summary}\n", f"{takes} → `{cls.produces}`"]
    lines[-1] += f" in {cls.precision}" if cls.precision else ""
    lines[-1] += "; needs calibration data" if cls.calibrates else ""
    lines[-1] += (
        f"; toolchain `{needs}`" if needs else f'; `pip install "ferryman[{plugin.extra}]"`' if plugin.extra else ""
    )
    options = [f"| `{entry.name}` | `{_default(entry)}` |" for entry in fields(cls)]
    if options:
        lines.append("\n" + "\n".join(["| option | default |", "|---|---|", *options]))
    # Of what it stands on, shared options are told here; another step tells of itself.
    own = [one for one in cls.__mro__ if is_dataclass(one) and (one is cls or "name" not in vars(one))]
    rest = " ".join(" ".join(inspect.cleandoc(one.__doc__ or "").partition("\n\n")[2] for one in own).split())
    return "\n".join([*lines, *([f"\n{rest}"] if rest else [])]) + "\n"


def _default(entry: Any) -> object:  # a dataclass field
    if entry.default is not MISSING:
        return entry.default
    return entry.default_factory() if entry.default_factory is not MISSING else "required"


def _toolchains() -> Iterator[str]:
    yield "| toolchain | for | about MB | pinned |"
    yield "|---|---|---|---|"
    for toolchain in toolchains().values():
        pins = ", ".join(f"`{_pin(pin)}`" for pin in _pins(toolchain))
        base = f"; stands on `{toolchain.base}`" if toolchain.base else ""
        yield f"| `{toolchain.name}` | {toolchain.summary}{base} | {toolchain.expected_mb} | {pins} |"


def _pins(toolchain: Toolchain) -> tuple[str, ...]:
    return (*toolchain.python, *toolchain.bare, *toolchain.node)


def _pin(text: str) -> str:
    return text.partition(";")[0].strip()
