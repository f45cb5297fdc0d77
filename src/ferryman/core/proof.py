"""What was measured of each candidate, and the verdict: the proof that a bundle carries."""

from pydantic import BaseModel, ConfigDict, Field

from ferryman.core.contract import Clause


class Record(BaseModel):
    """Be a frozen part of the proof."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Parity(Record):
    """Hold tensor distances to the source model, the worst over samples, by output name."""

    max_abs: dict[str, float]
    max_rel: dict[str, float] = Field(
        description="max |a-b| / (max |b| of that output), so that zeros don't blow it up"
    )
    samples: int


class Accuracy(Record):
    """Hold the task metric, and its drop against the source with a 95 % paired bootstrap interval.

    The drop is absolute for metrics that should be high, and a share of the source's own error for those that should be
    low (rmse, mae), whose size depends on the target's unit; where the source makes no error it is absolute, too.
    """

    metric: str
    value: float
    source_value: float
    drop: float
    drop_low: float
    drop_high: float
    samples: int
    higher_is_better: bool = True
    figures: dict[str, float] = Field(default_factory=dict)


class Reliability(Record):
    """Hold how well confidences tell the share of answers that are right: the expected calibration error, and its bins.

    A bin is (mean confidence, share that is right, answers), of equal width; empty ones are left out.
    """

    error: float
    bins: tuple[tuple[float, float, int], ...] = ()


class Calibration(Record):
    """Hold the reliability of a candidate's confidences beside that of the source's; for boxes at an IoU of 0.5."""

    source: Reliability
    candidate: Reliability

    @property
    def shift(self) -> float:
        """Give the rise of the expected calibration error."""
        return self.candidate.error - self.source.error


class Kept(Record):
    """Name nodes that stay in float, and why."""

    why: str
    nodes: tuple[str, ...]


class Latency(Record):
    """Hold latencies in milliseconds, taken turn by turn with the source's runs.

    `ratio` is the median of (this / source) over paired rounds; `noise` is how far from 1 the same
    figure of the source against itself may lie: smaller differences mean nothing.
    """

    min_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    ratio: float
    noise: float
    rounds: int
    poisson_p99_ms: float | None = None
    poisson_rps: float | None = None
    poisson_requests: int = 0


class Footprint(Record):
    """Hold what a fresh process needs: peak resident memory and seconds from start to first answer.

    Both are None where the model is for another place than this.
    """

    rss_mb: float | None = None
    cold_start_s: float | None = None
    size_mb: float


class Divergence(Record):
    """Name the first stage of the graph whose error is no longer explained by its inputs."""

    tensor: str
    node: str
    op: str
    sqnr_db: float = Field(description="signal to quantization noise of this tensor, in dB")
    inputs_sqnr_db: float = Field(description="the lowest of its inputs")
    worst: tuple[tuple[str, str, float], ...] = Field((), description="tensor, operator, dB of the worst stages")


class Attempt(Record):
    """Hold one try at a candidate: its options, what it measured, and why it was refused or not."""

    label: str
    why: str = ""
    options: dict[str, object] = Field(default_factory=dict)
    figures: dict[str, float] = Field(default_factory=dict)
    holds: bool
    seconds: float = 0.0
    is_cached: bool = Field(False, description="an earlier build made it: the seconds are not those of the work")
    error: str = ""


class CandidateProof(Record):
    """Hold everything known of one candidate."""

    name: str
    format: str
    precision: str
    digest: str = ""
    steps: tuple[str, ...] = ()
    status: str = Field(description="accepted, repaired, refused, failed, unavailable, on device or not tried")
    reason: str = ""
    parity: Parity | None = None
    agreement: dict[str, float] = Field(default_factory=dict)
    accuracy: Accuracy | None = None
    latency: Latency | None = None
    footprint: Footprint | None = None
    clauses: tuple[Clause, ...] = ()
    divergence: Divergence | None = None
    attempts: tuple[Attempt, ...] = ()
    calibration: Calibration | None = None
    kept_in_float: tuple[Kept, ...] = ()
    targets: tuple[str, ...] = Field((), description="the kinds of place where its format runs")
    dominated_by: tuple[str, ...] | None = Field(
        None, description="candidates that are better, and worse in nothing, beyond noise; none of a front's own"
    )
    score_histogram: tuple[tuple[float, ...], tuple[float, ...]] | None = Field(
        None, description="counts of confidences in 20 bins of [0, 1]: the source's, this candidate's"
    )


class TargetChoice(Record):
    """Hold the winner of one kind of place (empty where none keeps the contract), and what decided."""

    winner: str = ""
    why: str


class Proof(Record):
    """Hold the whole of a build's evidence."""

    model: str
    source_digest: str
    source_format: str
    samples: int
    metric: str | None
    source_value: float | None
    source_figures: dict[str, float] = Field(default_factory=dict)
    winner: str
    holds: bool
    verdict: str
    candidates: tuple[CandidateProof, ...]
    machine: dict[str, str]
    versions: dict[str, str]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = Field((), description="what the reader must not miss: a doubtful source, what lacks")
    exports: dict[str, str] = Field(
        default_factory=dict, description="the candidate that was exported for each format that build.formats asks for"
    )
    targets: dict[str, TargetChoice] = Field(
        default_factory=dict, description="the winner of each of build.targets, and why"
    )
    reference: str = Field("", description="the export in full precision that the others are compared with")
    data: dict[str, str] = Field(
        default_factory=dict, description="the digest of each set of data that was used: evaluation, calibration"
    )
