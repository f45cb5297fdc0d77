"""Tell of the Pareto front and of each target's winner, in lines for a terminal and as HTML."""

from collections.abc import Callable, Iterator

from ferryman.core.proof import CandidateProof, Proof
from ferryman.verify._svg import text
from ferryman.verify.columns import Paint, wrap
from ferryman.verify.figures import STATUS_SIGNS, is_number, plain

FRONT = "front: no other is as good in accuracy, latency, size and memory and, beyond noise, better in one of them"
_MOST_NAMED = 3
_BEST: tuple[tuple[str, Callable[[CandidateProof], float | None]], ...] = (
    ("most accurate", lambda it: it.accuracy.drop if it.accuracy else None),
    ("fastest", lambda it: it.latency.ratio if it.latency else None),
    ("smallest", lambda it: it.footprint.size_mb if it.footprint else None),
    ("leanest in memory", lambda it: it.footprint.rss_mb if it.footprint else None),
)


def standings(proof: Proof) -> list[tuple[CandidateProof, str]]:
    """Give every candidate that was measured with its place: the front first, each with what it is best at."""
    measured = [one for one in proof.candidates if one.dominated_by is not None]
    if len(measured) < 2:
        return []
    front = [one for one in measured if not one.dominated_by]
    told = [(one, ", ".join(_best_at(one, measured)) or "between the others") for one in front]
    return told + [(one, _dominated(one.dominated_by)) for one in measured if one.dominated_by]


def _best_at(candidate: CandidateProof, measured: list[CandidateProof]) -> Iterator[str]:
    for praise, read in _BEST:
        own = read(candidate)
        known = [value for one in measured if (value := read(one)) is not None and is_number(value)]
        if own is not None and known and own <= min(known):
            yield praise


def _dominated(names: tuple[str, ...]) -> str:
    shown = ", ".join(plain(name) for name in names[:_MOST_NAMED])
    return f"dominated by {shown}" + (f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else "")


def front_lines(proof: Proof, width: int, paint: Paint) -> list[str]:
    """Write a line a candidate: whether it is on the front, and what it is best at or what dominates it."""
    found = standings(proof)
    if not found:
        return []
    longest = max(len(plain(candidate.name)) for candidate, _ in found)
    lines = [paint(line, "dim") for line in wrap(FRONT, width)]
    for candidate, place in found:
        sign = "●" if not candidate.dominated_by else " "
        refused = f"{STATUS_SIGNS['refused']} refused, " if candidate.status == "refused" else ""
        first, *others = wrap(f"# {plain(candidate.name):<{longest}}  {refused}{place}", width)
        lines += [first.replace("#", paint(sign, "cyan"), 1), *others]
    return lines


def target_lines(proof: Proof, width: int, paint: Paint) -> list[str]:
    """Write each target's winner, and why."""
    lines = []
    for target, choice in proof.targets.items():
        told = wrap(f"for {plain(target)}: {plain(choice.winner or '✗ none')}: {plain(choice.why)}", width)
        lines += [paint(told[0], "" if choice.winner else "red"), *told[1:]]
    return lines


def render_targets(proof: Proof) -> str:
    """Write each target's winner and why as an HTML table."""
    rows = "".join(
        f"<tr><td>{text(target)}</td><td class=left><b>{text(choice.winner or 'none')}</b></td>"
        f'<td class="left text">{text(choice.why)}</td></tr>'
        for target, choice in proof.targets.items()
    )
    head = "<tr><th>target</th><th class=left>winner</th><th class=left>why</th></tr>"
    return f'<div class="card wide"><table>{head}{rows}</table></div>' if rows else ""


def render_front(proof: Proof) -> str:
    """Write the front as an HTML table."""
    rows = "".join(
        f"<tr><td>{text(candidate.name)}</td><td class=left>{'' if candidate.dominated_by else '●'}</td>"
        f'<td class=left>{text(candidate.status)}</td><td class="left text">{text(place)}</td></tr>'
        for candidate, place in standings(proof)
    )
    head = "<tr><th>candidate</th><th class=left>front</th><th class=left>verdict</th><th class=left>place</th></tr>"
    told = f"<p><small>{text(FRONT)}.</small></p>"
    return f'<div class="card wide"><table>{head}{rows}</table>{told}</div>' if rows else ""
