"""Show how far each candidate's tensors and answers are from the reference's, as HTML."""

import math

from ferryman.core.contract import broken
from ferryman.core.proof import CandidateProof, Proof
from ferryman.verify._svg import text
from ferryman.verify.figures import NOT_MEASURED, STATUS_SIGNS, figure, in_order, is_number, plain, significant

_SHARE, _PLAIN = "%", ""
_FIGURES: dict[str, tuple[str, str]] = {
    "label_changed": ("another label", _SHARE),
    "unmatched": ("boxes without a partner", _SHARE),
    "max_box_diff": ("farthest box, px", _PLAIN),
    "mean_iou_loss": ("mean loss of overlap", _PLAIN),
    "score_shift": ("mean score change", _PLAIN),
    "max_score_diff": ("largest score change", _PLAIN),
    "mean_cosine_distance": ("mean cosine distance", _PLAIN),
    "max_cosine_distance": ("largest cosine distance", _PLAIN),
    "max_abs_diff": ("largest change", _PLAIN),
    "max_rel_diff": ("largest relative change", _PLAIN),
}
_DECADES = (-8.0, 0.0)
"""The bar of a tensor's error is empty at 1e-8, near what float32 resolves, and full at 1."""
_CLAUSES = {"score_shift": "max_score_shift", "mean_iou_loss": "max_box_shift"}


def render_apart(proof: Proof) -> str:
    """Write a table: the largest tensor error, by a bar of its decades, and what it does to the answers."""
    shown = [candidate for candidate in in_order(proof) if candidate.parity]
    if not shown:
        return ""
    names = [name for name in _FIGURES if any(name in one.agreement for one in shown)]
    titles = ["candidate", "verdict", "tensor error", "", *(_FIGURES[name][0] for name in names)]
    head = "".join(
        f"<th{' class=left' if place in (1, 3) else ''}>{text(title)}</th>" for place, title in enumerate(titles)
    )
    body = "".join(_row(candidate, proof, names) for candidate in shown)
    return (
        f'<div class="card wide"><table><tr>{head}</tr>{body}</table><p><small>{text(_told(shown))}</small></p></div>'
    )


def _row(candidate: CandidateProof, proof: Proof, names: list[str]) -> str:
    sign = STATUS_SIGNS.get(candidate.status, NOT_MEASURED)
    pill = f'<span class="pill {text(candidate.status.replace(" ", "-"))}">{sign} {text(candidate.status)}</span>'
    wrong = {clause.name for clause in broken(list(candidate.clauses))}
    cells = "".join(
        f"<td{' class=broken' if _CLAUSES.get(name) in wrong else ''}>{text(_figure(candidate, name))}</td>"
        for name in names
    )
    is_winner = candidate.name == proof.winner
    label = f"<b>★ {text(candidate.name)}</b>" if is_winner else text(candidate.name)
    return (
        f"<tr{' class=winner' if is_winner else ''}><td>{label}</td><td class=left>{pill}</td>"
        f"{_error(candidate, is_wrong='max_error' in wrong)}{cells}</tr>"
    )


def _error(candidate: CandidateProof, *, is_wrong: bool) -> str:
    """Write the largest relative error, which output has it where there are several, and a bar of its decades."""
    errors = candidate.parity.max_rel if candidate.parity else {}
    worst = max(errors, key=lambda name: errors[name] if is_number(errors[name]) else math.inf, default="")
    value = errors.get(worst)
    named = f"<small>{text(plain(worst))}</small>" if len(errors) > 1 else ""
    low, high = _DECADES
    share = 1.0
    if value is not None and is_number(value):
        share = min(max((math.log10(max(value, 1e-12)) - low) / (high - low), 0.0), 1.0)
    kind = "use no" if is_wrong else "use"
    bar = f'<span class="{kind}"><i style="width:{100 * share:.0f}%"></i></span>'
    shown = "not a number" if value is not None and not is_number(value) else significant(value)
    return f"<td{' class=broken' if is_wrong else ''}>{text(shown)}{named}</td><td class=left>{bar}</td>"


def _figure(candidate: CandidateProof, name: str) -> str:
    value = candidate.agreement.get(name)
    if _FIGURES[name][1] == _SHARE:
        return figure(None if value is None else 100 * value, 1, unit="%")
    return significant(value)


def _told(shown: list[CandidateProof]) -> str:
    calls = max(one.parity.samples for one in shown if one.parity)
    return (
        f"Beside the reference. Tensor error: the largest difference by an output's largest value, in {calls} calls; "
        "its bar goes from 1e-8 to 1 in decades. The other columns are of the answers to all samples."
    )
