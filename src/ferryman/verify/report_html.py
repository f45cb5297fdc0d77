"""Write the proof of a bundle as one self-contained HTML page: no script, no outside asset, every text escaped."""

from collections.abc import Sequence
from importlib.resources import files

from ferryman.core.bundle import Bundle
from ferryman.core.contract import Clause, broken
from ferryman.core.proof import Attempt, CandidateProof, Divergence, Proof
from ferryman.verify._apart import render_apart
from ferryman.verify._front import render_front, render_targets
from ferryman.verify._golden import render_golden
from ferryman.verify._plots import render_plots
from ferryman.verify._svg import text
from ferryman.verify.figures import (
    NOT_MEASURED,
    STATUS_SIGNS,
    attempt_time,
    diverges,
    drop_interval,
    figure,
    figure_word,
    in_order,
    is_number,
    load_rps,
    reasons,
    repairs,
    significant,
    size,
    tail_latency,
    timing_noise,
    word,
)


def render_html(bundle: Bundle) -> str:
    """Write the whole page."""
    proof = bundle.proof
    style = files("ferryman.verify").joinpath("report.css").read_text(encoding="utf-8")
    sections = [
        _header(bundle),
        _section("The contract", _contract(_winner(proof))),
        _section("Candidates", _candidates(proof)),
        _section("How far apart", render_apart(proof)),
        _section("Targets", render_targets(proof)),
        _section("What it costs, what it keeps", render_plots(bundle)),
        _section("The front", render_front(proof)),
        _section("Why", _reasons(proof)),
        _section("Golden samples", _golden(bundle)),
        _section("What is in it", _details(bundle)),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">'
        f"<title>{text(bundle.manifest.name)}: the proof</title><style>{style}</style></head><body><main>"
        f"{''.join(sections)}</main></body></html>\n"
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{text(title)}</h2>{body}</section>" if body else ""


def _winner(proof: Proof) -> CandidateProof | None:
    return next((candidate for candidate in proof.candidates if candidate.name == proof.winner), None)


def _header(bundle: Bundle) -> str:
    proof, manifest = bundle.proof, bundle.manifest
    holds = "yes" if proof.holds else "no"
    winner = _winner(proof)
    warned = "".join(f'<p class="warning">warning: {text(one)}</p>' for one in proof.warnings)
    keys = "".join(_key(*one) for one in _key_figures(proof, winner)) if winner else ""
    return (
        f'<header><p class="eyebrow">Ferryman proof · {text(manifest.format)} {text(manifest.precision)}</p>'
        f"<h1>{text(manifest.name)}</h1>"
        f'<p class="verdict {holds}"><span>{"✓" if proof.holds else "✗"}</span><span>{text(proof.verdict)}</span></p>'
        f"{warned}"
        f'<p class="digest mono">{text(manifest.digest)}</p><div class="keys">{keys}</div></header>'
    )


def _key(title: str, value: str, remark: str) -> str:
    return f'<div class="key"><span>{text(title)}</span><b>{text(value)}</b><span>{text(remark)}</span></div>'


def _key_figures(proof: Proof, winner: CandidateProof) -> list[tuple[str, str, str]]:
    keys = []
    if winner.accuracy:
        remark = f"source {figure(winner.accuracy.source_value)}; drop {drop_interval(winner)}"
        keys.append((winner.accuracy.metric, figure(winner.accuracy.value), remark))
    if winner.latency:
        keys.append(("latency p50", figure(winner.latency.p50_ms, 1, unit="ms"), _speed(winner.latency.ratio)))
        rate = load_rps(proof)
        tail = figure(tail_latency(winner), 1, unit="ms")
        keys.append(("latency p99", tail, f"at {rate:g} requests/s" if rate else "of single calls"))
    if winner.footprint:
        keys.append(("size", figure(winner.footprint.size_mb, 2, unit="MB"), _against_largest(proof, winner)))
        start = figure(winner.footprint.cold_start_s, 2, unit="s")
        keys.append(("memory", figure(winner.footprint.rss_mb, 0, unit="MB"), f"first answer after {start}"))
    return keys


def _speed(ratio: float) -> str:
    if not is_number(ratio) or ratio <= 0:
        return "not measured against the source"
    return f"{1 / ratio:.2f} times the source's speed" if ratio < 1 else f"{ratio:.2f} times the source's time"


def _against_largest(proof: Proof, winner: CandidateProof) -> str:
    sizes = [one.footprint.size_mb for one in proof.candidates if one.footprint and is_number(one.footprint.size_mb)]
    own = winner.footprint.size_mb if winner.footprint else 0.0
    if not sizes or not is_number(own) or own <= 0 or max(sizes) <= own:
        return "of model files"
    return f"{max(sizes) / own:.1f} times less than the largest"


def _contract(winner: CandidateProof | None) -> str:
    if winner is None or not winner.clauses:
        return ""
    body = "".join(_clause_row(clause) for clause in winner.clauses)
    head = "<tr><th>promise</th><th>at most</th><th>measured</th><th class=left>used</th><th class=left></th></tr>"
    return f'<div class="card wide"><table>{head}{body}</table></div>'


def _clause_row(clause: Clause) -> str:
    state = {True: ("yes", "✓ holds"), False: ("no", "✗ broken"), None: ("", "not measured")}[clause.holds]
    used = ""
    if clause.measured is not None and is_number(clause.measured) and clause.promised > 0:
        share = min(max(clause.measured / clause.promised, 0.0), 1.0)
        used = f'<span class="use {state[0]}"><i style="width:{100 * share:.0f}%"></i></span>'
    return (
        f"<tr><td>{text(word(clause))} <small><code>{text(clause.name)}</code></small></td>"
        f"<td>{text(significant(clause.promised, unit=clause.unit))}</td>"
        f"<td>{text(significant(clause.measured, unit=clause.unit))}</td>"
        f'<td class="left">{used}</td><td class="left"><span class="pill {state[0]}">{state[1]}</span></td></tr>'
    )


def _candidates(proof: Proof) -> str:
    rate = load_rps(proof)
    titles: tuple[str, ...] = ("candidate", "verdict", proof.metric or "metric", "drop (95 %)", "score shift")
    titles += (
        "calibration error",
        "p50 ms",
        "vs source",
        f"p99 ms at {rate:g}/s" if rate else "p99 ms",
        "size MB",
        "memory MB",
        "cold start s",
    )
    head = "".join(f"<th{' class=left' if index < 2 else ''}>{text(title)}</th>" for index, title in enumerate(titles))
    body = "".join(_candidate_row(candidate, proof) for candidate in in_order(proof))
    return f'<div class="card wide"><table><tr>{head}</tr>{body}</table>{_noise(proof)}</div>'


def _candidate_row(candidate: CandidateProof, proof: Proof) -> str:
    accuracy, latency, footprint = candidate.accuracy, candidate.latency, candidate.footprint
    calibration = candidate.calibration
    wrong = {clause.name for clause in broken(list(candidate.clauses))}
    cells = [
        (figure(accuracy.value if accuracy else None), ""),
        (figure(accuracy.drop if accuracy else None, signed=True), "max_drop"),
        (figure(candidate.agreement.get("score_shift")), "max_score_shift"),
        (figure(calibration.candidate.error if calibration else None), "max_calibration_shift"),
        (figure(latency.p50_ms if latency else None, 2), ""),
        (figure(latency.ratio if latency else None, 2), ""),
        (figure(tail_latency(candidate), 1), "p99_ms"),
        (figure(footprint.size_mb if footprint else None, 2), "max_size_mb"),
        (figure(footprint.rss_mb if footprint else None, 0), "max_rss_mb"),
        (figure(footprint.cold_start_s if footprint else None, 2), "max_cold_start_s"),
    ]
    intervals = {"max_drop": f"<small>{text(drop_interval(candidate))}</small>"} if accuracy else {}
    if calibration:
        intervals["max_calibration_shift"] = f"<small>source {text(figure(calibration.source.error))}</small>"
    row = "".join(
        f"<td{' class=broken' if clause in wrong else ''}>{text(value)}{intervals.get(clause, '')}</td>"
        for value, clause in cells
    )
    is_winner = candidate.name == proof.winner
    name = f"<b>★ {text(candidate.name)}</b>" if is_winner else text(candidate.name)
    kind = " class=winner" if is_winner else ""
    return f"<tr{kind}><td>{name}</td><td class=left>{_pill(candidate.status)}</td>{row}</tr>"


def _pill(status: str) -> str:
    kind = status if status in STATUS_SIGNS else "unavailable"
    return f'<span class="pill {kind.replace(" ", "-")}">{STATUS_SIGNS[kind]} {text(status)}</span>'


def _noise(proof: Proof) -> str:
    noise = timing_noise(proof)
    if not noise:
        return ""
    return (
        f"<p><small>{noise[1]} rounds, each taken turn by turn with the source's; ratios within "
        f"±{text(figure(100 * noise[0], 1))} % mean nothing.</small></p>"
    )


def _reasons(proof: Proof) -> str:
    """Give a card to each candidate that has a story, and one line to each that has none."""
    stories, lines = [], []
    for candidate in in_order(proof):
        if candidate.divergence or repairs(candidate):
            stories.append(_story(candidate, proof))
        elif candidate.status != "accepted":
            told = text("; ".join(reasons(candidate, proof)) or candidate.status)
            name = f"<td>{text(candidate.name)}</td><td class=left>{_pill(candidate.status)}</td>"
            lines.append(f'<tr>{name}<td class="left text">{told}</td></tr>')
    listed = f'<div class="card wide"><table class="why">{"".join(lines)}</table></div>' if lines else ""
    return "".join(stories) + listed


def _story(candidate: CandidateProof, proof: Proof) -> str:
    listed = "".join(f"<li>{text(reason)}</li>" for reason in reasons(candidate, proof))
    rungs = "".join(_rung(number, attempt) for number, attempt in enumerate(repairs(candidate), start=1))
    return (
        f'<div class="card story"><h3>{text(candidate.name)} {_pill(candidate.status)}</h3>'
        + (f"<ul>{listed}</ul>" if listed else "")
        + (_divergence(candidate.divergence) if candidate.divergence else "")
        + (f'<ol class="ladder">{rungs}</ol>' if rungs else "")
        + "</div>"
    )


def _divergence(divergence: Divergence) -> str:
    worst = "".join(
        f'<span class="chip"><b>{text(op)}</b> {text(tensor)} {text(figure(level_db, 1))} dB</span>'
        for tensor, op, level_db in divergence.worst
    )
    return f"<p>{text(diverges(divergence))}.</p>" + (f'<div class="chips">{worst}</div>' if worst else "")


def _rung(number: int, attempt: Attempt) -> str:
    figures = "".join(
        f'<span class="chip">{text(figure_word(name))} <b>{text(significant(value))}</b></span>'
        for name, value in attempt.figures.items()
    )
    options = "".join(
        f'<span class="chip"><code>{text(name)} = {text(str(value)[:160])}</code></span>'
        for name, value in attempt.options.items()
    )
    told = f"<br><small>{text(attempt.why)}</small>" if attempt.why else ""
    failed = f"<br><small>{text(attempt.error)}</small>" if attempt.error else ""
    return (
        f'<li class="{"yes" if attempt.holds else "no"}"><span class="rung">{number}</span>'
        f"<b>{text(attempt.label)}</b> <small>{'holds' if attempt.holds else 'does not hold'}, "
        f"{text(attempt_time(attempt))}</small>{told}{failed}"
        f'<div class="chips">{figures}{options}</div></li>'
    )


def _golden(bundle: Bundle) -> str:
    cards = render_golden(bundle)
    limits = ", ".join(f"{name} ≤ {significant(limit)}" for name, limit in bundle.tolerance.items())
    told = f'<p class="muted">A server is ready only after it has answered these right ({text(limits)}).</p>'
    return f'{told}<div class="samples">{cards}</div>' if cards else ""


def _details(bundle: Bundle) -> str:
    proof, signature = bundle.proof, bundle.artifact.signature
    tensors = [
        (f"{kind} {spec.name}", f"{spec.dtype}[{', '.join(str(dimension) for dimension in spec.shape)}]")
        for kind, specs in (("in", signature.inputs), ("out", signature.outputs))
        for spec in specs
    ]
    origin: list[tuple[str, object]] = [("source format", proof.source_format), ("source digest", proof.source_digest)]
    origin += [("made by", " → ".join(bundle.artifact.made_by) or "the source as it is")]
    origin += [("samples", proof.samples), *(("note", note) for note in proof.notes)]
    entries = sorted(bundle.manifest.files.items())
    listed = [(path, f"{size(entry.size)}  {entry.sha256[:16]}…") for path, entry in entries]
    blocks = [
        ("Signature", tensors),
        ("Task", list(bundle.deployment.task.model_dump(mode="json", exclude_none=True).items())),
        ("Origin", origin),
        ("Machine", list(proof.machine.items())),
        ("Versions", sorted(bundle.versions.items())),
        ("Files", listed),
    ]
    return '<div class="grid">' + "".join(_facts(title, facts) for title, facts in blocks if facts) + "</div>"


def _facts(title: str, facts: Sequence[tuple[str, object]]) -> str:
    rows = "".join(f"<dt>{text(name)}</dt><dd>{text(_brief(value))}</dd>" for name, value in facts)
    return f'<div class="card"><h3>{text(title)}</h3><dl>{rows}</dl></div>'


def _brief(value: object) -> str:
    if isinstance(value, list) and len(value) > 12:
        return f"{', '.join(map(str, value[:6]))} … ({len(value)} in all)"
    return NOT_MEASURED if value is None else str(value)
