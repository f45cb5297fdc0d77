"""Write the proof and a bundle for a terminal."""

from collections.abc import Callable, Sequence

from ferryman.core.bundle import Bundle
from ferryman.core.contract import Clause, broken
from ferryman.core.proof import CandidateProof, Proof
from ferryman.core.signature import TensorSpec
from ferryman.verify._front import front_lines, target_lines
from ferryman.verify.columns import Cell, Column, Paint, fit, rows, wrap
from ferryman.verify.figures import (
    NOT_MEASURED,
    STATUS_SIGNS,
    attempt_figures,
    attempt_time,
    diverges,
    drop_interval,
    figure,
    in_order,
    joined,
    kept_nodes,
    load_rps,
    plain,
    reasons,
    repairs,
    significant,
    size,
    tail_latency,
    timing_noise,
    word,
)

_LEGEND = (
    "drop: of the metric against the source · shift: mean change of confidence · calibration: mean distance of "
    "confidences from the share that is right · error: largest relative change of a tensor · vs source: its time as a "
    "share of the source's"
)
_STATUS_STYLES = {"accepted": "green", "repaired": "cyan", "refused": "red", "failed": "red"}


def render_table(proof: Proof, *, width: int, color: bool) -> str:
    """Write the final table of a build: a line a candidate, then why, the noise of the timing and the verdict."""
    paint = Paint(color)
    kept, dropped = fit(_columns(proof), width)
    lines = [*_heading(proof, width, paint), "", *rows(kept, paint)]
    if dropped:
        hidden = ", ".join(column.heading for column in dropped)
        lines += [paint(line, "dim") for line in wrap(f"a wider terminal also shows: {hidden}", width)]
    for candidates in _alike(proof):
        explained = _why(candidates, proof, width, paint)
        lines += ["", *explained] if explained else []
    for block in (front_lines(proof, width, paint), target_lines(proof, width, paint)):
        lines += ["", *block] if block else []
    footer = _footer(proof, width, paint)
    verdict = wrap(f"{'✓' if proof.holds else '✗'} {plain(proof.verdict)}", width)
    lines += ["", *footer, *(paint(line, "bold", "green" if proof.holds else "red") for line in verdict)]
    lines += _warnings(proof, width, paint)
    return "\n".join(lines) + "\n"


def _heading(proof: Proof, width: int, paint: Paint) -> list[str]:
    metric = f"{plain(proof.metric)} {figure(proof.source_value)}" if proof.metric else "no labelled data"
    facts = f"source {plain(proof.source_format)} · {metric} · {proof.samples} samples"
    first, *others = wrap(f"{plain(proof.model)}  {facts}", width)
    return [paint(first.replace(plain(proof.model), paint(plain(proof.model), "bold"), 1)), *others]


def _columns(proof: Proof) -> list[Column]:
    candidates = in_order(proof)
    rate = load_rps(proof)

    def figures(heading: str, gives_way: int, write: Callable[[CandidateProof], str], clause: str = "") -> Column:
        cells = tuple(_figure_cell(candidate, write(candidate), clause) for candidate in candidates)
        return Column(heading, cells, gives_way)

    return [
        Column("candidate", tuple(_name_cell(candidate, proof) for candidate in candidates), is_text=True),
        Column("verdict", tuple(_status_cell(candidate) for candidate in candidates), is_text=True),
        figures(plain(proof.metric or "metric"), 1, lambda it: figure(it.accuracy.value if it.accuracy else None)),
        figures("drop", 1, lambda it: figure(it.accuracy.drop if it.accuracy else None, signed=True), "max_drop"),
        figures("95 % of drop", 5, drop_interval),
        figures("shift", 4, lambda it: figure(it.agreement.get("score_shift")), "max_score_shift"),
        figures("calibration", 8, _calibration, "max_calibration_shift"),
        figures("error", 9, lambda it: significant(_worst_error(it)), "max_error"),
        figures("p50 ms", 2, lambda it: figure(it.latency.p50_ms if it.latency else None, 2)),
        figures("vs source", 2, lambda it: figure(it.latency.ratio if it.latency else None, 2)),
        figures(f"p99 ms@{rate:g}/s" if rate else "p99 ms", 6, lambda it: figure(tail_latency(it), 1), "p99_ms"),
        figures("MB", 3, lambda it: figure(it.footprint.size_mb if it.footprint else None, 2), "max_size_mb"),
        figures("RSS MB", 7, lambda it: figure(it.footprint.rss_mb if it.footprint else None, 0), "max_rss_mb"),
        figures(
            "start s", 8, lambda it: figure(it.footprint.cold_start_s if it.footprint else None, 2), "max_cold_start_s"
        ),
    ]


def _worst_error(candidate: CandidateProof) -> float | None:
    return max(candidate.parity.max_rel.values(), default=None) if candidate.parity else None


def _calibration(candidate: CandidateProof) -> str:
    return figure(candidate.calibration.candidate.error if candidate.calibration else None)


def _figure_cell(candidate: CandidateProof, text: str, clause: str) -> Cell:
    """Mark a figure that breaks the contract by sign and colour: not everybody sees red."""
    if any(one.name == clause for one in broken(list(candidate.clauses))):
        return Cell(f"!{text}", "red")
    return Cell(text, "dim" if text == NOT_MEASURED else "")


def _name_cell(candidate: CandidateProof, proof: Proof) -> Cell:
    if candidate.name == proof.winner:
        return Cell(f"★ {plain(candidate.name)}", "bold")
    return Cell(
        f"  {plain(candidate.name)}", "dim" if candidate.status in ("unavailable", "on device", "not tried") else ""
    )


def _status_cell(candidate: CandidateProof) -> Cell:
    sign = STATUS_SIGNS.get(candidate.status, "?")
    return Cell(f"{sign} {plain(candidate.status)}", _STATUS_STYLES.get(candidate.status, "dim"))


def _warnings(proof: Proof, width: int, paint: Paint) -> list[str]:
    return [paint(line, "bold", "yellow") for one in proof.warnings for line in wrap(f"warning: {plain(one)}", width)]


def _alike(proof: Proof) -> list[list[CandidateProof]]:
    """Put candidates together of which there is one and the same thing to tell."""
    together: dict[tuple[str, ...], list[CandidateProof]] = {}
    for candidate in in_order(proof):
        told = reasons(candidate, proof)
        has_more = repairs(candidate) or candidate.divergence or candidate.kept_in_float
        key = (candidate.name,) if has_more or not told else (candidate.status, *told)
        together.setdefault(key, []).append(candidate)
    return list(together.values())


def _why(alike: Sequence[CandidateProof], proof: Proof, width: int, paint: Paint) -> list[str]:
    """Explain candidates that did not simply hold: clauses, the diverging stage, the repairs."""
    candidate = alike[0]
    names = ", ".join(plain(one.name) for one in alike)
    if candidate.status == "accepted" and not repairs(candidate):
        return []
    sign = STATUS_SIGNS.get(candidate.status, "?")
    reason = "; ".join(reasons(candidate, proof))
    text = f"{sign} {names} {plain(candidate.status)}{f': {reason}' if reason else ''}"
    first, *others = wrap(text, width)
    lines = [first.replace(sign, paint(sign, _STATUS_STYLES.get(candidate.status, "")), 1), *others]
    if candidate.divergence:
        lines += wrap(diverges(candidate.divergence), width, indent="  ")
    for kept in candidate.kept_in_float:
        lines += wrap(kept_nodes(kept), width, indent="  ")
    for number, attempt in enumerate(repairs(candidate), start=1):
        mark = paint("✓", "green") if attempt.holds else paint("✗", "red")
        told = f"{plain(attempt.label)}  {attempt_figures(attempt)}  ({attempt_time(attempt)})"
        first, *others = wrap(f"{number} # {told}", width, indent="  ")
        lines += [first.replace("#", mark, 1), *others]
        lines += wrap(plain(attempt.why), width, indent="      ") if attempt.why else []
    return lines


def _footer(proof: Proof, width: int, paint: Paint) -> list[str]:
    lines = wrap(_LEGEND, width)
    if noise := timing_noise(proof):
        spread, rounds = noise
        lines += wrap(
            f"timing: {rounds} rounds taken turn by turn with the source; ratios within "
            f"±{figure(100 * spread, 1)} % mean nothing",
            width,
        )
    if proof.machine:
        lines += wrap(f"machine: {joined(proof.machine.items())}", width)
    for note in proof.notes:
        lines += wrap(f"note: {plain(note)}", width)
    return [paint(line, "dim") for line in lines]


def render_bundle(bundle: Bundle, *, width: int = 100, color: bool = False) -> str:
    """Write what a bundle is: digest, files, signature, task, contract, golden samples, versions."""
    paint = Paint(color)
    manifest = bundle.manifest
    total = sum(entry.size for entry in manifest.files.values())
    lines = [
        f"{paint(plain(manifest.name), 'bold')}  {plain(manifest.format)} {plain(manifest.precision)}, {size(total)}",
        f"  digest   {plain(manifest.digest)}",
        f"  path     {plain(bundle.path)}",
        f"  made by  {' → '.join(map(plain, bundle.artifact.made_by)) or 'nothing: the source as it is'}",
        *_section("task", [joined(_task_facts(bundle))], width, paint),
        *_section("signature", _signature_lines(bundle), width, paint),
        *_section("contract", _clause_lines(_winner_clauses(bundle.proof), paint), 0, paint),
        *_section("golden samples", _golden_lines(bundle), width, paint),
        *_section("files", _file_lines(bundle), 0, paint),
        *_section("versions", [joined(sorted(bundle.versions.items()))], width, paint),
    ]
    lines += ["", *target_lines(bundle.proof, width, paint)] if bundle.proof.targets else []
    verdict = f"{'✓' if bundle.proof.holds else '✗'} {plain(bundle.proof.verdict)}"
    styles = ("bold", "green" if bundle.proof.holds else "red")
    lines += ["", *(paint(line, *styles) for line in wrap(verdict, width)), *_warnings(bundle.proof, width, paint)]
    return "\n".join(lines) + "\n"


def _section(title: str, content: Sequence[str], width: int, paint: Paint) -> list[str]:
    """Write a titled block; a width of 0 leaves its lines as they are."""
    if not any(content):
        return []
    wrapped = [line for text in content for line in (wrap(text, width, indent="  ") if width else [f"  {text}"])]
    return ["", paint(title, "cyan"), *wrapped]


def _task_facts(bundle: Bundle) -> list[tuple[str, object]]:
    """Give the task's settings, long lists by their length."""
    facts: list[tuple[str, object]] = []
    for name, value in bundle.deployment.task.model_dump(mode="json", exclude_none=True).items():
        shown = f"{len(value)} in all" if isinstance(value, list) and len(value) > 6 else value
        facts.append((name, f"= {shown}"))
    return facts


def _signature_lines(bundle: Bundle) -> list[str]:
    signature = bundle.artifact.signature
    inputs = [f"in   {_tensor(spec)}" for spec in signature.inputs]
    return inputs + [f"out  {_tensor(spec)}" for spec in signature.outputs]


def _tensor(spec: TensorSpec) -> str:
    return f"{plain(spec.name)}  {plain(spec.dtype)}[{', '.join(plain(size) for size in spec.shape)}]"


def _winner_clauses(proof: Proof) -> tuple[Clause, ...]:
    return next((candidate.clauses for candidate in proof.candidates if candidate.name == proof.winner), ())


def _clause_lines(clauses: Sequence[Clause], paint: Paint) -> list[str]:
    if not clauses:
        return ["nothing is promised"]
    return rows(clause_columns(clauses), paint)


def clause_columns(clauses: Sequence[Clause]) -> list[Column]:
    """Give the columns of a contract: promise, promised, measured, whether it holds."""
    signs = {
        True: Cell("✓ holds", "green"),
        False: Cell("✗ broken", "red"),
        None: Cell(f"{NOT_MEASURED} not measured", "dim"),
    }
    return [
        Column("promise", tuple(Cell(word(clause)) for clause in clauses), is_text=True),
        Column("promised", tuple(Cell(f"≤ {significant(one.promised, unit=one.unit)}") for one in clauses)),
        Column("measured", tuple(Cell(significant(one.measured, unit=one.unit)) for one in clauses)),
        Column("", tuple(signs[clause.holds] for clause in clauses), is_text=True),
    ]


def _golden_lines(bundle: Bundle) -> list[str]:
    names = ", ".join(plain(golden.name) for golden in bundle.golden)
    limits = ", ".join(f"{plain(name)} ≤ {significant(limit)}" for name, limit in bundle.tolerance.items())
    return [f"{names} (an answer may be off by {limits})"] if names else []


def _file_lines(bundle: Bundle) -> list[str]:
    longest = max((len(plain(path)) for path in bundle.manifest.files), default=0)
    return [
        f"{plain(path):<{longest}}  {size(entry.size):>10}  {entry.sha256[:12]}"
        for path, entry in sorted(bundle.manifest.files.items())
    ]
