"""Choose what the report plots: trade-off, latency, size, confidences."""

from ferryman.core.bundle import Bundle
from ferryman.core.contract import Contract
from ferryman.core.proof import CandidateProof, Proof
from ferryman.verify._svg import Bar, Point, bars, histogram, scatter, text
from ferryman.verify.figures import STATUS_SIGNS, figure, in_order, is_number, load_rps, tail_latency

_TELLING_SHIFT = 0.01
_MOST_HISTOGRAMS = 4
_LEGEND = (("winner", "winner"), ("accepted", "accepted"), ("repaired", "repaired"), ("refused", "refused"))


def render_plots(bundle: Bundle) -> str:
    """Write a card a plot; a plot that has no figures is left out."""
    proof, contract = bundle.proof, bundle.deployment.contract
    cards = [_trade_off(proof, contract), _latencies(proof, contract), _sizes(proof, contract), *_confidences(proof)]
    shown = "".join(card for card in cards if card)
    return f'<div class="grid">{shown}</div>' if shown else ""


def _card(title: str, remark: str, plot: str, legend: str = "") -> str:
    return f'<div class="card"><h3>{text(title)} <small>{text(remark)}</small></h3>{plot}{legend}</div>'


def _kind(candidate: CandidateProof, proof: Proof) -> str:
    if candidate.name == proof.winner:
        return "winner"
    return candidate.status if candidate.status in STATUS_SIGNS else "unavailable"


def _trade_off(proof: Proof, contract: Contract) -> str:
    """Plot against the tail where a tail is promised, so that the shaded region is the promise."""
    is_tail = contract.p99_ms is not None
    points = [_point(candidate, proof, is_tail=is_tail) for candidate in in_order(proof)]
    known = [point for point in points if point is not None]
    if not known:
        return ""
    rate = load_rps(proof)
    across = (f"p99 ms at {rate:g} requests/s" if rate else "p99 ms") if is_tail else "p50 ms"
    labels = (across, f"change of {proof.metric} against the source")
    plot = scatter(known, max_ms=contract.p99_ms, max_drop=contract.max_drop, labels=labels)
    present = {point.kind for point in known}
    legend = "".join(f'<span class="k-{kind}"><i></i>{name}</span>' for kind, name in _LEGEND if kind in present)
    return _card(
        "Accuracy and latency",
        "green: the contract's region · dots: size · line: the front",
        plot,
        f'<div class="legend">{legend}</div>',
    )


def _point(candidate: CandidateProof, proof: Proof, *, is_tail: bool) -> Point | None:
    if candidate.accuracy is None or candidate.latency is None:
        return None
    latency_ms = tail_latency(candidate) if is_tail else candidate.latency.p50_ms
    drop = candidate.accuracy.drop
    if latency_ms is None or not is_number(latency_ms) or not is_number(drop):
        return None
    low, high = candidate.accuracy.drop_low, candidate.accuracy.drop_high
    return Point(
        name=candidate.name,
        kind=_kind(candidate, proof),
        latency_ms=latency_ms,
        change=-drop,
        change_low=-(high if is_number(high) else drop),
        change_high=-(low if is_number(low) else drop),
        size_mb=candidate.footprint.size_mb if candidate.footprint else None,
        is_on_front=candidate.dominated_by == (),
    )


def _latencies(proof: Proof, contract: Contract) -> str:
    rate = load_rps(proof)
    items = []
    for candidate in in_order(proof):
        latency = candidate.latency
        tail = tail_latency(candidate)
        if latency is None or tail is None:
            continue
        values = (latency.p50_ms, latency.p95_ms, max(tail, latency.p95_ms))
        if all(is_number(value) and value > 0 for value in values):
            items.append(Bar(candidate.name, _kind(candidate, proof), values))
    if not items:
        return ""
    marks = ("p50", "p95", f"p99 at {rate:g} requests/s" if rate else "p99")
    return _card("Latency", "dots: p50 and p95", bars(items, limit=contract.p99_ms, unit="ms", marks=marks))


def _sizes(proof: Proof, contract: Contract) -> str:
    items = [
        Bar(candidate.name, _kind(candidate, proof), (candidate.footprint.size_mb,))
        for candidate in in_order(proof)
        if candidate.footprint and is_number(candidate.footprint.size_mb)
    ]
    return _card("Size", "model files", bars(items, limit=contract.max_size_mb, unit="MB")) if items else ""


def _confidences(proof: Proof) -> list[str]:
    legend = '<div class="legend"><span>line: source</span><span>bars: candidate</span><span>root scale</span></div>'
    cards = []
    for candidate in in_order(proof):
        shift = candidate.agreement.get("score_shift", 0.0)
        is_telling = candidate.name == proof.winner or not shift < _TELLING_SHIFT
        if candidate.score_histogram and any(map(sum, candidate.score_histogram)) and is_telling:
            remark = f"mean shift against the source {figure(shift)}"
            plot = histogram(*candidate.score_histogram)
            cards.append(_card(f"Confidences of {candidate.name}", remark, plot, legend))
    return cards[:_MOST_HISTOGRAMS]
