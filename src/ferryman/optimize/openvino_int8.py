"""Quantize an OpenVINO model to INT8 with NNCF."""

from dataclasses import dataclass
from typing import Any, ClassVar

from ferryman.core.artifact import Artifact
from ferryman.core.errors import FerrymanError, StepError
from ferryman.core.signature import Array, Tensors
from ferryman.core.step import StepContext
from ferryman.optimize._nncf import import_nncf, quiet
from ferryman.optimize._openvino import members_of, name_new_nodes, read, reason_of, write
from ferryman.optimize._options import StaticOptions, check_samples, choose


@dataclass(frozen=True)
class OpenVINOInt8(StaticOptions):
    """Quantize weights and activations of an OpenVINO model to INT8 with NNCF, with ranges from calibration data.

    "minmax" takes the mean of each sample's extremes, "percentile" the mean of its percentiles. `most_samples` bounds
    how many of the samples are read: NNCF reads each several times.
    """

    name: ClassVar[str] = "openvino-int8"
    accepts: ClassVar[frozenset[str]] = frozenset({"openvino"})
    produces: ClassVar[str] = "openvino"
    precision: ClassVar[str | None] = "int8"
    calibrates: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("openvino", "nncf")
    extra: ClassVar[str] = "openvino"
    calibrators: ClassVar[tuple[str, ...]] = ("minmax", "percentile")

    most_samples: int | None = None

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write the folder model; raises DataError for too few samples, StepError where nothing can be quantized."""
        model = read(source.path)
        members = members_of(model)
        chosen = choose([entry.layer for entry in members], self, None, self.name)
        kept = {layer.name for layer in chosen}
        ignored = [node for entry in members if entry.layer.name not in kept for node in entry.nodes]
        check_samples(context.calibration, self.min_samples, source.signature, self.name)
        known = {node.get_friendly_name() for node in model.get_ops()}
        quantized = _quantize(model, ignored, self, context)
        name_new_nodes(quantized, known)
        context.progress("quantize", note=f"{len(chosen)} of {len(members)} layers")
        return write(quantized, source, context.workspace, step=self.name, precision="int8")


def _quantize(model: Any, ignored: list[str], options: OpenVINOInt8, context: StepContext) -> Any:  # openvino.Model
    nncf = import_nncf()
    total = min(len(context.calibration), options.most_samples or len(context.calibration))
    seen: set[int] = set()

    def feed(index: int) -> dict[str, Array]:
        seen.add(index)  # NNCF reads the samples once for ranges and once to correct biases
        context.progress("find ranges", done=len(seen), total=total)
        return dict(_sample(context, index))

    with quiet():
        try:
            return nncf.quantize(
                model,
                nncf.Dataset(range(total), feed),
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=total,
                ignored_scope=nncf.IgnoredScope(names=ignored, validate=False),
                advanced_parameters=_advanced(nncf, options),
            )
        except FerrymanError:
            raise
        except Exception as error:
            raise StepError(
                f"openvino-int8: NNCF failed: {reason_of(error)}",
                hint="keep the layer that it names in float: exclude_nodes",
            ) from error


def _sample(context: StepContext, index: int) -> Tensors:
    return context.calibration[index]


def _advanced(nncf: Any, options: OpenVINOInt8) -> Any:  # the module; nncf.AdvancedQuantizationParameters
    from nncf.quantization.advanced_parameters import QuantizationParameters
    from nncf.quantization.range_estimator import (
        AggregatorType,
        RangeEstimatorParameters,
        StatisticsCollectorParameters,
        StatisticsType,
    )

    extra: dict[str, Any] = {}  # NNCF's own parameter classes
    if options.calibrator == "percentile":
        outside = (1 - options.percentile / 100) / 2
        limit = StatisticsCollectorParameters(
            statistics_type=StatisticsType.QUANTILE,
            aggregator_type=AggregatorType.MEAN,
            quantile_outlier_prob=outside,
        )
        extra["activations_range_estimator_params"] = RangeEstimatorParameters(min=limit, max=limit)
    if not options.per_channel:
        extra["weights_quantization_params"] = QuantizationParameters(per_channel=False)
    return nncf.AdvancedQuantizationParameters(**extra)
