"""The `[task]` section of an object detector."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ferryman.core.contract import Share
from ferryman.core.task import TaskSpec
from ferryman.tasks.image import ImageInput
from ferryman.tasks.labels import Labels, resolve_labels

DecoderName = Literal["yolox", "yolov5", "yolov8", "end2end", "nms"]
BoxFormat = Literal["xyxy", "yxyx", "xywh", "cxcywh"]


class Suppression(BaseModel):
    """Say which of a detector's boxes are kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    iou: Share = Field(0.65, description="Overlap with a better box of the same class from which a box is dropped.")
    score: Share = Field(0.01, description="Boxes below this score are dropped; low, since the metric needs them.")
    max: Annotated[int, Field(gt=0, le=10_000)] = Field(300, description="Most boxes of one picture.")
    agnostic: bool = Field(False, description="Drop overlapping boxes of other classes too.")
    multi_label: bool = Field(False, description="Let one place have several classes, each over `score`.")


class DetectOutputs(BaseModel):
    """Name the model's outputs, where they can't be told apart by their shapes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    boxes: str | None = Field(None, description="The output with the boxes, or with everything.")
    scores: str | None = Field(None, description="The output with the scores.")
    classes: str | None = Field(None, description="The output with the class numbers.")
    count: str | None = Field(None, description="The output that says how many boxes are valid.")


class DetectSpec(TaskSpec):
    """Be the `[task]` section of an object detector."""

    kind: Literal["detect"] = Field("detect", description="What the tensors mean.")
    decoder: DecoderName = Field(
        description="Layout of the outputs. yolox: raw grid [B, N, 5+C]. yolov5: pixels [B, N, 5+C]. "
        "yolov8: pixels [B, 4+C, N]. end2end: [B, N, 6] of corners, score, class. nms: boxes that were suppressed in "
        "the graph, as [N, 6] or as separate boxes, scores and classes."
    )
    input: ImageInput = Field(ImageInput(), description="How a picture becomes the model's input.")
    labels: Labels | None = Field(
        None, description="Class names, or the file with one name a line, or 'coco80'; numbers by default."
    )
    nms: Suppression = Field(Suppression(), description="Which boxes are kept.")
    show_score: Share = Field(0.25, description="Boxes from this score on are drawn, and compared between models.")
    strides: tuple[Annotated[int, Field(gt=0)], ...] | None = Field(
        None, description="yolox: cell sizes of its grids in pixels; found from the number of cells by default."
    )
    box_format: BoxFormat = Field("xyxy", description="nms, end2end: what the four numbers of a box are.")
    normalized: bool = Field(False, description="nms, end2end: boxes are shares of the input's size, not pixels.")
    first_class: Annotated[int, Field(ge=0)] = Field(
        0, description="nms, end2end: the model's number of the first label; 1 where 0 is the background."
    )
    outputs: DetectOutputs = Field(DetectOutputs(), description="Names of the model's outputs.")

    def resolved(self, folder: Path) -> "DetectSpec":
        """Give the spec with its label file, relative to `folder`, read in."""
        return self.model_copy(update={"labels": resolve_labels(self.labels, folder)})
