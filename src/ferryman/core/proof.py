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
    """Hold what a fresh process needs: peak resident memory and seconds from start to first answer."""

    rss_mb: float
    cold_start_s: float
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
    error: str = ""


class CandidateProof(Record):
    """Hold everything known of one candidate."""

    name: str
    format: str
    precision: str
    digest: str = ""
    steps: tuple[str, ...] = ()
    status: str = Field(description="accepted, repaired, refused, failed or unavailable")
    reason: str = ""
    parity: Parity | None = None
    agreement: dict[str, float] = Field(default_factory=dict)
    accuracy: Accuracy | None = None
    latency: Latency | None = None
    footprint: Footprint | None = None
    clauses: tuple[Clause, ...] = ()
    divergence: Divergence | None = None
    attempts: tuple[Attempt, ...] = ()
    score_histogram: tuple[tuple[float, ...], tuple[float, ...]] | None = Field(
        None, description="counts of confidences in 20 bins of [0, 1]: the source's, this candidate's"
    )


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
