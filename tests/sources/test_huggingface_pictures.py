"""A picture's way into a model of transformers is taken from its folder, or refused; never guessed."""

from pathlib import Path
from typing import Any

import pytest
from tests.sources.test_huggingface_folder import write

from ferryman.core.errors import SourceError
from ferryman.sources._huggingface_folder import read_folder
from ferryman.tasks.image import ImageInput

_SHORT = {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}}
_RESNET = {"feature_extractor_type": "ConvNextFeatureExtractor", "size": 224, "crop_pct": 0.875, "resample": 3}
_CONVNEXT = {"image_processor_type": "ConvNextImageProcessor"}


def image_input(tmp_path: Path, given: dict[str, Any], model_type: str = "vit") -> dict[str, Any]:
    config = {"model_type": model_type, "architectures": ["XForImageClassification"], "image_size": 224}
    folder = read_folder(write(tmp_path / "model", config=config, preprocessor_config=given))
    assert folder.head()["size"] == folder.image_input()["size"]
    ImageInput.model_validate(folder.image_input())
    return folder.image_input()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (
            {"size": {"height": 384, "width": 256}, "resample": 3, "image_mean": [0.1, 0.2, 0.3]},
            {"size": [384, 256], "fit": "stretch", "resize": "bicubic", "mean": [0.1, 0.2, 0.3], "std": [0.5] * 3},
        ),
        (_SHORT, {"size": [224, 224], "fit": "crop", "resize_short": 256}),
        (
            {**_CONVNEXT, "size": {"shortest_edge": 224}, "crop_pct": 0.875},
            {"size": [224, 224], "fit": "crop", "resize_short": 256},
        ),
        (_RESNET, {"size": [224, 224], "fit": "crop", "resize_short": 256, "resize": "bicubic"}),
        ({**_CONVNEXT, "size": {"shortest_edge": 384}}, {"size": [384, 384], "fit": "stretch"}),
        (
            {"image_processor_type": "BitImageProcessorFast", "size": {"shortest_edge": 256}, "rescale_offset": False},
            {"size": [224, 224], "resize_short": 256, "resize": "bicubic", "mean": [0.48145466, 0.4578275, 0.40821073]},
        ),
        ({"size": 192, "do_normalize": False, "do_rescale": False}, {"size": [192, 192], "scale": 1.0}),
        ({"size": 224, "do_center_crop": True, "crop_size": 224}, {"size": [224, 224], "fit": "stretch"}),
        ({}, {"size": [224, 224], "scale": 1 / 255, "mean": [0.5]}),
    ],
)
def test_pictures_are_prepared_as_the_folder_says(
    tmp_path: Path, given: dict[str, Any], wanted: dict[str, Any]
) -> None:
    image = image_input(tmp_path, given)
    assert {key: image.get(key) for key in wanted} == wanted
    assert ("mean" in image) == given.get("do_normalize", True)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"image_processor_type": "MobileViTImageProcessor", "do_flip_channel_order": True}, "is of a MobileViTImage"),
        ({"image_processor_type": "EfficientNetImageProcessor"}, "is of a EfficientNetImageProcessor"),
        ({"image_processor_type": "LevitImageProcessor"}, "is of a LevitImageProcessor"),
        ({"do_flip_channel_order": True}, "has do_flip_channel_order = True, which is not known"),
        ({"size": 224, "include_top": True}, "has include_top = True"),
        ({"do_pad": True}, "has do_pad = True"),
        ({"size": 256, "do_center_crop": True, "crop_size": 224}, r"stretches pictures to \[256, 256\] and cuts"),
        ({"image_processor_type": "DeiTImageProcessor"}, r"cuts \[224, 224\] out of that"),
        ({**_CONVNEXT, **_SHORT}, "which .task. can't say"),
        ({"size": {"shortest_edge": 224}}, "cuts nothing out of that"),
        ({"size": {"shortest_edge": 192}, "do_center_crop": True, "crop_size": 224}, "which .task. can't say"),
        ({"size": {"longest_edge": 224}}, "has size = {'longest_edge': 224}"),
        ({"do_resize": False}, "do_resize = false"),
        ({"resample": 5}, "has resample = 5"),
    ],
)
def test_what_the_task_can_not_say_of_pictures_is_refused_by_name(
    tmp_path: Path, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(SourceError, match=said) as caught:
        image_input(tmp_path, given)
    assert "export the model to ONNX" in caught.value.hint


def test_a_processor_that_is_not_named_is_known_by_the_models_type(tmp_path: Path) -> None:
    assert image_input(tmp_path, _SHORT, "mobilenet_v2")["resize_short"] == 256
    with pytest.raises(SourceError, match="names no image_processor_type, for a model of type mobilevit"):
        image_input(tmp_path, _SHORT, "mobilevit")
