"""Write for a terminal how a file that somebody else made compares with a project's source."""

from collections.abc import Sequence

from ferryman.core.proof import CandidateProof
from ferryman.verify.columns import Paint, rows, wrap
from ferryman.verify.figures import STATUS_SIGNS, diverges, drop_interval, figure, plain, reasons, significant
from ferryman.verify.report import clause_columns


def render_examined(proof: CandidateProof, remarks: Sequence[str], *, color: bool, width: int = 100) -> str:
    """Write the metric beside the source's, the promises, the stage that is to blame, and `remarks`."""
    paint = Paint(color)
    lines = [paint(plain(proof.name), "bold") + f"  {plain(proof.format)}"]
    if proof.accuracy:
        accuracy = proof.accuracy
        lines.append(
            f"  {plain(accuracy.metric)} {figure(accuracy.value)}; the source has {figure(accuracy.source_value)}: "
            f"a drop of {figure(accuracy.drop)} ({drop_interval(proof)}) on {accuracy.samples} samples"
        )
    if proof.parity:
        worst = max(proof.parity.max_rel.values(), default=None)
        lines.append(f"  largest relative error of a tensor: {significant(worst)}")
    lines += [f"  {line}" for line in (rows(clause_columns(proof.clauses), paint) if proof.clauses else [])]
    if proof.divergence:
        lines += wrap(diverges(proof.divergence), width, indent="  ")
    for told in remarks:
        lines += wrap(plain(told), width)
    sign = STATUS_SIGNS.get(proof.status, "?")
    why = "; ".join(reasons(proof))
    holds = proof.status == "accepted"
    verdict = "answers as the source does, as far as the contract asks" if holds else f"is refused: {why}"
    verdict_lines = wrap(f"{sign} {plain(proof.name)} {verdict}", width)
    lines += [paint(line, "bold", "green" if holds else "red") for line in verdict_lines]
    return "\n".join(lines) + "\n"
