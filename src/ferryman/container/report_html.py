"""Write what was found of an image as one self-contained HTML page: no script, no outside asset, all text escaped."""

from html import escape
from importlib.resources import files

from ferryman.container.outcome import Figure, Outcome
from ferryman.container.suite import Examined
from ferryman.verify.figures import plain

_PILLS = {"passed": ("yes", "✓ holds"), "failed": ("no", "✗ broken"), "told": ("repaired", "! told"),
          "not checked": ("", "\N{EN DASH} not checked")}  # fmt: skip
_KEYS = (
    ("size", "size_mb", "image", "MB"),
    ("start", "first_answer_s", "first answer", "s"),
    ("latency", "p99_ms", "latency p99", "ms"),
    ("memory", "container_mb", "memory", "MB"),
    ("drain", "lost", "lost at SIGTERM", ""),
)


def render_html(examined: Examined) -> str:
    """Write the whole page, in the look of a bundle's proof."""
    style = files("ferryman.verify").joinpath("report.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{_text(examined.image)}: verified</title><style>{style}</style></head><body><main>"
        f"{_header(examined)}{_checks(examined)}{_details(examined)}</main></body></html>\n"
    )


def verdict(examined: Examined) -> str:
    """Say in a sentence how it ended."""
    counts = {name: sum(one.verdict == name for one in examined.outcomes) for name in _PILLS}
    rest = f"{counts['passed']} checks hold, {counts['not checked']} not checked"
    if counts["failed"]:
        return f"the image breaks {counts['failed']} of its promises; {rest}"
    if not examined.holds:
        return f"nothing could be checked; {rest}"
    return f"the image keeps its promises as far as checked; {rest}"


def _header(examined: Examined) -> str:
    holds = examined.holds
    keys = "".join(_key(examined, *key) for key in _KEYS)
    return (
        f'<header><p class="eyebrow">Ferryman image check · {_text(examined.engine)} · {_text(examined.platform)}</p>'
        f"<h1>{_text(examined.image)}</h1>"
        f'<p class="verdict {"yes" if holds else "no"}"><span>{"✓" if holds else "✗"}</span>'
        f'<span>{_text(verdict(examined))}</span></p><p class="digest mono">{_text(examined.id)}</p>'
        f'<div class="keys">{keys}</div></header>'
    )


def _key(examined: Examined, check: str, figure: str, title: str, unit: str) -> str:
    found = next((one for one in examined.outcomes if one.id == check), None)
    value = found.figures.get(figure) if found else None
    if found is None or value is None:
        return ""
    promised = next((value for name, value in found.figures.items() if name.startswith("promised")), None)
    remark = f"of at most {_number(promised)} {unit}" if promised is not None else _PILLS[found.verdict][1]
    return (
        f'<div class="key"><span>{_text(title)}</span><b>{_text(_number(value))} {unit}</b>'
        f"<span>{_text(remark)}</span></div>"
    )


def _checks(examined: Examined) -> str:
    head = '<tr><th>check</th><th class="left"></th><th class="left">what was seen</th><th>s</th></tr>'
    rows = "".join(_row(one) for one in examined.outcomes)
    return f'<section><h2>Checks</h2><div class="card wide"><table>{head}{rows}</table></div></section>'


def _row(one: Outcome) -> str:
    kind, words = _PILLS[one.verdict]
    hint = f"<br><small>{_text(one.hint)}</small>" if one.hint and one.verdict != "passed" else ""
    return (
        f"<tr><td>{_text(one.title)} <small><code>{_text(one.id)}</code></small></td>"
        f'<td class="left"><span class="pill {kind}">{words}</span></td>'
        f'<td class="left text">{_text(one.message)}{hint}</td><td>{one.seconds:.1f}</td></tr>'
    )


def _details(examined: Examined) -> str:
    limits = examined.limits
    started: list[tuple[str, object]] = [
        ("memory", f"{limits.memory_mb} MB ({limits.memory_from})"),
        ("CPUs", f"{limits.cpus:g} ({limits.cpus_from})"),
        ("processes", limits.pids),
        ("shut", _shut(examined)),
        ("bundle", examined.bundle or "none known"),
    ]
    promised = [(name, getattr(examined.promises, name)) for name in examined.promises.__dataclass_fields__]
    figures = [(f"{one.id}: {name}", value) for one in examined.outcomes for name, value in one.figures.items()]
    blocks = [("Started with", started), ("Promises", [pair for pair in promised if pair[1] is not None]),
              ("Figures", figures)]  # fmt: skip
    told = "".join(
        f'<div class="card"><h3>{_text(title)}</h3><dl>'
        + "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in facts)
        + "</dl></div>"
        for title, facts in blocks
        if facts
    )
    return f'<section><h2>Details</h2><div class="grid">{told}</div></section>'


def _shut(examined: Examined) -> str:
    posture = examined.posture
    read_only = "read-only root, no tmpfs but /dev/shm" if posture.is_read_only else "writable root: it needs one"
    unprivileged = "no capabilities, no_new_privs" if posture.is_unprivileged else "the engine's own privileges"
    return f"{read_only}; {unprivileged}" + ("" if posture.is_limited else "; no limits: it needs more")


def _number(value: Figure) -> str:
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 1000 else str(value)


def _text(value: object) -> str:
    return escape(plain(value))
