"""A pipeline's figures in Prometheus' text format."""

from collections.abc import Iterable, Iterator
from typing import Any

from ferryman.vision.figures import BOUNDS_S, Histogram
from ferryman.vision.pipeline import Pipeline


class PipelineCollector:
    """Give prometheus_client the figures at the moment of the scrape."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def collect(self) -> Iterator[Any]:  # prometheus_client's metric families
        """Yield every family."""
        yield from self._of_cameras()
        yield _histograms(
            "ferryman_pipeline_stage_seconds", "Time of each stage of a call.", "stage",
            self._pipeline.figures.stages.items(),
        )  # fmt: skip
        ages = ((name, one.ages) for name, one in self._pipeline.figures.cameras.items())
        yield _histograms("ferryman_camera_answer_age_seconds", "From a frame's capture to its answer.", "camera", ages)

    def _of_cameras(self) -> Iterator[Any]:  # prometheus_client's metric families
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        health, figures = self._pipeline.health, self._pipeline.figures.cameras
        counts = (
            ("frames", "Frames read.", {name: one.frames for name, one in health.items()}),
            ("answered", "Frames answered.", {name: one.answered for name, one in figures.items()}),
            ("failed", "Frames that the model failed at.", {name: one.failed for name, one in figures.items()}),
            ("dropped", "Frames left out because newer ones came.", {n: self._pipeline.dropped(n) for n in health}),
            ("losses", "Times that the camera was lost.", {name: one.losses for name, one in health.items()}),
            ("damaged", "Packets that couldn't be decoded.", {name: one.damaged for name, one in health.items()}),
        )
        for name, told, values in counts:
            family = CounterMetricFamily(f"ferryman_camera_{name}", told, labels=["camera"])
            for camera, value in values.items():
                family.add_metric([camera], value)
            yield family
        state = GaugeMetricFamily("ferryman_camera_state", "1 for the camera's state.", labels=["camera", "state"])
        age = GaugeMetricFamily("ferryman_camera_frame_age_seconds", "Since the last frame.", labels=["camera"])
        for camera, one in health.items():
            state.add_metric([camera, one.state], 1)
            if one.age_s is not None:
                age.add_metric([camera], one.age_s)
        yield state
        yield age


def _histograms(name: str, told: str, label: str, items: Iterable[tuple[str, Histogram]]) -> Any:  # a metric family
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(name, told, labels=[label])
    for value, histogram in items:
        total, buckets = 0, []
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), histogram.counts, strict=True):
            total += count
            buckets.append((bound, total))
        family.add_metric([value], buckets, histogram.total_s)
    return family


def render(pipeline: Pipeline) -> bytes:
    """Give the text that Prometheus scrapes."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(PipelineCollector(pipeline))
    return generate_latest(registry)
