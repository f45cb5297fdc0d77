"""A report as one self-contained HTML page: no script, no outside asset, every text escaped."""

import base64
from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import groupby

from ferryman import __version__
from ferryman.monitor.report.facts import Example, Report, Sample, SignalReport, VersionReport
from ferryman.monitor.report.plots import plot_latency, plot_signal, plot_traffic
from ferryman.monitor.report.svg import Axis, clock, figure, text
from ferryman.monitor.report.words import (
    LOSS_WORDS,
    alert_line,
    availability,
    drifted_signals,
    has_drifted,
    headline,
    is_late,
    moves,
    served,
)

_MOST_SIGNALS = 12
_MOST_LISTED = 200
_MOST_ALERTS = 100
_HUES = 12


def render_page(report: Report, *, style: str) -> str:
    """Write the whole page; `style` is the house's style sheet, to which the report adds its own."""
    own = files("ferryman.monitor.report").joinpath("report.css").read_text(encoding="utf-8")
    sections = [
        _header(report),
        _section("Alerts", _alerts(report)),
        _section("Actions", _actions(report)),
        *(
            _model(name, list(versions), report)
            for name, versions in groupby(report.versions, lambda one: one.model)
        ),
        _section("Sampled pictures", _pictures(report)),
        _section("What was not kept", _losses(report)),
        _footer(report),
    ]  # fmt: skip
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">'
        f"<title>{text(_title(report))}</title><style>{style}{own}</style></head><body><main>"
        f"{''.join(sections)}</main></body></html>\n"
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{text(title)}</h2>{body}</section>" if body else ""


def _title(report: Report) -> str:
    names = list(dict.fromkeys(one.model for one in report.versions))
    return ", ".join(names[:3]) + (" and others" if len(names) > 3 else "") or "No requests"


def _header(report: Report) -> str:
    is_well, said = headline(report)
    notes = "".join(f'<p class="note">{text(note)}</p>' for note in report.notes)
    keys = "".join(_key(*one) for one in _key_figures(report)) if report.versions else ""
    return (
        f'<header><p class="eyebrow">Ferryman report · {clock(report.since_s)} to {clock(report.until_s)} UTC</p>'
        f"<h1>{text(_title(report))}</h1>"
        f'<p class="verdict {"yes" if is_well else "no"}"><span>{"✓" if is_well else "✗"}</span>'
        f'<span>{text(said)}</span></p>{notes}<div class="keys">{keys}</div></header>'
    )


def _key(title: str, value: str, remark: str) -> str:
    return f'<div class="key"><span>{text(title)}</span><b>{text(value)}</b><span>{text(remark)}</span></div>'


def _key_figures(report: Report) -> list[tuple[str, str, str]]:
    versions = report.versions
    records = sum(one.records for one in versions)
    known = [one.requests for one in versions if one.requests is not None]
    keys = []
    if len(known) == len(versions):
        total = {word: sum(of.get(word, 0) for of in known) for of in known for word in of}
        share = availability(total)
        keys.append(("requests", figure(sum(total.values())), f"{figure(records)} of them recorded"))
        keys.append(("answered", _share(share), "of those that the caller got right"))
    else:
        keys.append(("records", figure(records), "of requests"))
    slowest = max((one for one in versions if one.p99_s is not None), key=lambda one: one.p99_s or 0.0, default=None)
    if slowest is not None and slowest.p99_s is not None:
        name = f"of {slowest.model} {slowest.version}" + (", the slowest" if len(versions) > 1 else "")
        keys.append(("latency p99", f"{figure(1000 * slowest.p99_s)} ms", name))
    drifted = sum(map(has_drifted, versions))
    keys.append(("drift", "yes" if drifted else "no", f"in {drifted} of {len(versions)} versions"))
    firing = sum(alert.get("state") == "firing" for alert in report.alerts)
    keys.append(("alerts", str(len(report.alerts)), f"{firing} still firing"))
    keys.append(("records lost", figure(sum(report.losses.values())), "by the watch's own count"))
    return keys


def _alerts(report: Report) -> str:
    rows = []
    for alert in report.alerts[:_MOST_ALERTS]:
        began, lasted = alert_line(alert)
        state = "no" if alert.get("state") == "firing" else "yes"
        about = " ".join(str(alert.get(key, "")) for key in ("model", "version")).strip() or "the machine"
        muted = f" <small>muted: {text(alert['muted'])}</small>" if alert.get("muted") else ""
        what = alert.get("description") or alert.get("summary", "")
        rows.append(
            f"<tr><td>{text(began)}</td><td class=left>{text(lasted)}</td>"
            f'<td class="left"><span class="pill {state}">{text(alert.get("state", ""))}</span></td>'
            f"<td class=left>{text(alert.get('rule', ''))}</td><td class=left>{text(alert.get('severity', ''))}</td>"
            f'<td class=left>{text(about)}</td><td class="left text">{text(what)}{muted}</td></tr>'
        )
    if not rows:
        return ""
    titles = ("fired (UTC)", "for", "state", "rule", "severity", "of", "what")
    more = f'<p class="note">and {len(report.alerts) - len(rows)} more</p>' if len(report.alerts) > len(rows) else ""
    return _table(titles, rows) + more


def _actions(report: Report) -> str:
    rows = []
    for action in report.actions[:_MOST_ALERTS]:
        began, ended = (
            clock(value) if isinstance(value, int | float) else ""
            for value in (action.get("began"), action.get("ended"))
        )
        outcome = str(action.get("outcome") or "under way")
        pill = {"done": "yes", "failed": "no"}.get(outcome, "")
        cause = action.get("cause")
        why = cause.get("summary", "") if isinstance(cause, Mapping) else ""
        about = " ".join(str(action.get(key, "")) for key in ("model", "version"))
        rows.append(
            f"<tr><td>{text(began)}</td><td class=left>{text(ended)}</td>"
            f'<td class="left"><span class="pill {pill}">{text(outcome)}</span></td>'
            f"<td class=left>{text(action.get('do', ''))}</td><td class=left>{text(about)}</td>"
            f'<td class="left text">{text(why)}</td><td class="left text">{text(action.get("said", ""))}</td></tr>'
        )
    more = f'<p class="note">and {len(report.actions) - len(rows)} more</p>' if len(report.actions) > len(rows) else ""
    return _table(("began (UTC)", "ended", "outcome", "what", "of", "why", "said"), rows) + more if rows else ""


def _share(share: float | None) -> str:
    return figure(None) if share is None else "100%" if share == 1 else f"{min(share, 0.99999):.3%}"


def _table(titles: Sequence[str], rows: Sequence[str], *, texts: int = 99) -> str:
    head = "".join(f"<th{' class=left' if place < texts else ''}>{text(one)}</th>" for place, one in enumerate(titles))
    return f'<div class="card wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _model(name: str, versions: Sequence[VersionReport], report: Report) -> str:
    titles = ("version", "served (UTC)", "requests", "answered", "records", "looked into", "p50 ms", "p90 ms", "p99 ms",
              "max ms", "CPU ms a request", "drift")  # fmt: skip
    table = _table(titles, [_version_row(one) for one in versions], texts=2)
    parts = [_version(one, report, is_alone=len(versions) == 1) for one in versions]
    return f"<section><h2>{text(name)}</h2>{table}</section>{''.join(parts)}"


def _version_row(one: VersionReport) -> str:
    share = availability(one.requests)
    digest = one.digest.removeprefix("sha256:")[:12]
    digest = f" <small>{text(digest)}</small>" if digest != one.version else ""
    cells = [
        figure(sum(one.requests.values())) if one.requests is not None else figure(None),
        _share(share),
        figure(one.records),
        figure(one.looked_into),
        *(figure(1000 * value if value is not None else None) for value in (one.p50_s, one.p90_s)),
    ]
    late = " class=broken" if is_late(one) else ""
    slow = "".join(
        f"<td{kind}>{figure(1000 * value if value is not None else None)}</td>"
        for value, kind in ((one.p99_s, late), (one.max_s, ""), (_cpu_s_a_request(one), ""))
    )
    pill = '<span class="pill no">drift</span>' if has_drifted(one) else '<span class="pill yes">none</span>'
    if not one.signals and not one.drift:
        pill = '<span class="pill">not known</span>'
    return (
        f"<tr><td>{text(one.version)}{digest}</td><td class=left>{text(served(one))}</td>"
        f"{''.join(f'<td>{cell}</td>' for cell in cells)}{slow}<td>{pill}</td></tr>"
    )


def _cpu_s_a_request(one: VersionReport) -> float | None:
    count = sum(one.requests.values()) if one.requests is not None else 0
    return one.cpu_s / count if one.cpu_s is not None and count else None


def _version(one: VersionReport, report: Report, *, is_alone: bool) -> str:
    axis = Axis(report.since_s, report.until_s, report.slot_s)
    told = "".join(f"<li>{text(line)}</li>" for line in moves(one))
    outcomes = one.requests if one.requests is not None else one.outcomes
    chips = "".join(
        f'<span class="chip">{text(word)} <b>{figure(count)}</b></span>'
        for word, count in sorted(outcomes.items(), key=lambda entry: -entry[1])
        if count
    )
    kind = "all requests, as the server counted them" if one.requests is not None else "records of requests"
    stages = ", ".join(
        f"{name.removesuffix('_s')} {figure(round(1000 * value, 2))} ms"
        for name, value in one.stages.items()
        if value is not None
    )
    plots = (
        f'<div class="grid"><div class="card"><h3>Traffic and errors <small>{kind}</small></h3>'
        f'{plot_traffic(one, axis)}<div class="chips">{chips}</div></div>'
        f'<div class="card"><h3>Latency of answers <small>{text(stages)} on average</small></h3>'
        f"{plot_latency(one, axis)}</div></div>"
    )
    moved = f'<h2>What moved</h2><div class="card"><ul class="moved">{told}</ul></div>' if told else ""
    signals = _signals(one, report, axis)
    title = "" if is_alone else f"<h2>{text(one.model)} {text(one.version)}</h2>"
    return f'<section class="version">{title}{plots}{moved}{signals}</section>'


def _signals(one: VersionReport, report: Report, axis: Axis) -> str:
    if not one.signals:
        return ""
    drifted = drifted_signals(one)
    cards = "".join(
        _signal(signal, report, axis, has_drifted=signal.name in drifted) for signal in one.signals[:_MOST_SIGNALS]
    )
    rest = one.signals[_MOST_SIGNALS : _MOST_SIGNALS + _MOST_LISTED]
    rows = [
        f"<tr><td>{text(signal.name)}</td><td>{figure(signal.distance)}</td><td>{figure(signal.chance)}</td>"
        f'<td class="left text">{text(signal.text)}</td></tr>'
        for signal in rest
    ]
    table = _table(("signal", "distance", "chance", "what"), rows, texts=1) if rows else ""
    what = "the bundle's baseline" if one.before == "baseline" else "as long a time before the range"
    legend = (
        '<div class="legend"><span class="now"><i></i>this range</span>'
        f'<span class="before"><i></i>before: {what}</span><span class="past"><i></i>its middle 80 %</span></div>'
    )
    items = f'<p class="note">{figure(one.items)} items of {figure(one.looked_into)} requests, strongest first.</p>'
    return f'<h2>Signals</h2>{items}<div class="grid">{cards}</div>{table}{legend}'


def _signal(signal: SignalReport, report: Report, axis: Axis, *, has_drifted: bool) -> str:
    state = (
        ("no", "moved") if signal.has_moved else ("no", "drifted for a time") if has_drifted else ("yes", "as before")
    )
    missing = f", {signal.missing:.1%} missing" if signal.missing else ""
    return (
        f'<div class="card signal"><h3>{text(signal.name)} <span class="pill {state[0]}">{state[1]}</span></h3>'
        f"<p>{text(signal.text)}<br><small>distance {figure(signal.distance)}, by chance up to "
        f"{figure(signal.chance)}; {figure(signal.items)} items{missing}</small></p>"
        f"{plot_signal(signal, report.ranks, axis)}"
        f"{_examples('most like before', signal.examples_before)}{_examples('furthest from it', signal.examples_after)}"
        "</div>"
    )


def _examples(title: str, examples: Sequence[Example]) -> str:
    if not examples:
        return ""
    shown = "".join(_example(one) for one in examples)
    return f'<h4>Requests {title}</h4><div class="examples">{shown}</div>'


def _example(one: Example) -> str:
    value = figure(one.value) if isinstance(one.value, float) else text(one.value[:80])
    told = f"<figcaption><b>{value}</b>, {clock(one.at_s)}: {text(one.why)}</figcaption>"
    body = _drawn(one.sample) if one.sample is not None else f'<p class="mono">{text(one.text)}</p>'
    return f"<figure>{body}{told}</figure>"


def _pictures(report: Report) -> str:
    if not report.samples:
        return ""
    cards = "".join(map(_picture, report.samples))
    told = f"{len(report.samples)} pictures of {report.payloads} payloads in the range, redacted as they were kept."
    return f'<p class="note">{told}</p><div class="samples">{cards}</div>'


def _drawn(sample: Sample) -> str:
    side = max(sample.width, sample.height)
    line, letters = side / 300, side / 26
    hues = {name: place % _HUES for place, name in enumerate(sorted({one.split(" ")[0] for one in sample.labels}))}
    boxes = "".join(
        f'<g class="box h{hues[label.split(" ")[0]]}"><rect class="edge" x="{x1:.1f}" y="{y1:.1f}" '
        f'width="{max(x2 - x1, 0):.1f}" height="{max(y2 - y1, 0):.1f}" stroke-width="{line:.2f}"/>'
        f'<rect class="tab" x="{x1:.1f}" y="{max(y1 - letters * 1.3, 0):.1f}" '
        f'width="{0.58 * letters * len(label[:40]) + letters * 0.5:.1f}" height="{letters * 1.3:.1f}"/>'
        f'<text x="{x1 + letters * 0.25:.1f}" y="{max(y1 - letters * 1.3, 0) + letters:.1f}" '
        f'style="font-size:{letters:.1f}px">{text(label[:40])}</text></g>'
        for (x1, y1, x2, y2), label in zip(sample.boxes, sample.labels, strict=True)
    )
    source = f"data:image/jpeg;base64,{base64.b64encode(sample.jpeg).decode('ascii')}"
    return (
        f'<svg viewBox="0 0 {sample.width} {sample.height}" role="img" aria-label="{text(sample.id[:80])}">'
        f'<image href="{source}" width="{sample.width}" height="{sample.height}"/>{boxes}</svg>'
    )


def _picture(sample: Sample) -> str:
    return (
        f"<figure>{_drawn(sample)}<figcaption>{text(sample.model)} {text(sample.version)}, {clock(sample.at_s)}: "
        f"{text(sample.why)}"
        f"<span>{text(sample.told[:200])}</span><span class=mono>{text(sample.id[:80])}</span></figcaption></figure>"
    )


def _losses(report: Report) -> str:
    rows = [
        f"<tr><td>{text(why)}</td><td>{figure(count)}</td>"
        f'<td class="left text">{text(LOSS_WORDS.get(why, ""))}</td></tr>'
        for why, count in report.losses.items()
    ]
    rows += [
        f'<tr><td class="text">{text(name)}</td><td>1 file</td><td class="left">damaged, left out</td></tr>'
        for name in report.skipped[:_MOST_LISTED]
    ]
    if report.later:
        why = "of a time after the range's end: a clock was ahead"
        rows.append(f'<tr><td>later</td><td>{figure(report.later)}</td><td class="left">{why}</td></tr>')
    return _table(("reason", "records", "what it means"), rows, texts=1) if rows else ""


def _footer(report: Report) -> str:
    left = f" {report.left_out} versions with fewest records are left out." if report.left_out else ""
    return (
        f"<footer>Made by ferryman {text(__version__)}, {clock(report.made_s)} UTC; "
        f"spans of {figure(report.slot_s / 60)} minutes. All times are UTC.{left}</footer>"
    )
