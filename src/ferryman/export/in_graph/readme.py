"""Describe a model that takes pictures, for those who put it into a program of their own."""

from collections.abc import Mapping, Sequence

from ferryman.core.signature import Signature, TensorSpec

_MEANINGS = {
    "pictures": "decoded pixels, 0 to 255, red first; any height and width, one size in a call",
    "boxes": "left, top, right, bottom in pixels of the picture as it was given; best score of a picture first",
    "scores": "how sure the model is of each, in its own measure",
    "classes": "the class's number, from 0",
    "picture_index": "which picture of the call each box is of, from 0",
}
_OF_CLASSIFIERS = {
    "scores": "the best classes' scores, best first",
    "classes": "their numbers, from 0",
    "class_scores": "every class's score, after the task's `activation`",
}

_TEXT = """# {title}

A model that takes pictures as they are: {inside}. It needs {engine}, and nothing else.
Up to 20 samples were answered both with it and with the model and its separate pre- and postprocessing: scores were
within 1e-3 of each other, boxes had an IoU of at least 0.99. See proof.json of the bundle.

| input | dtype | shape | is |
|---|---|---|---|
{inputs}

| output | dtype | shape | is |
|---|---|---|---|
{outputs}

```python
{code}
```
{labels}"""

_CODE = {
    "onnx": """import cv2, onnxruntime

session = onnxruntime.InferenceSession("{file}")
picture = cv2.cvtColor(cv2.imread("picture.jpg"), cv2.COLOR_BGR2RGB)
{names} = session.run(None, {{"pictures": picture[None]}})""",
    "openvino": """import cv2, openvino

model = openvino.compile_model("{file}", "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})
picture = cv2.cvtColor(cv2.imread("picture.jpg"), cv2.COLOR_BGR2RGB)
{names} = model({{"pictures": picture[None]}}).values()""",
}
_ENGINES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}


def render_readme(title: str, format_name: str, signature: Signature, *, labels: Sequence[str] | None) -> str:
    """Write README.md: what goes in, what comes out, in which units, and a program that asks it."""
    is_whole = any(port.name in ("class_scores", "picture_index") for port in signature.outputs)
    meanings = {**_MEANINGS, **(_OF_CLASSIFIERS if signature.outputs[-1].name == "class_scores" else {})}
    file = "model/model.onnx" if format_name == "onnx" else "model/model.xml"
    names = ", ".join(port.name for port in signature.outputs)
    return _TEXT.format(
        title=title,
        inside="resizing and scaling are in its graph" + (", and so is all that follows" if is_whole else ""),
        engine=_ENGINES[format_name],
        inputs=_table(signature.inputs, meanings),
        outputs=_table(signature.outputs, meanings if is_whole else {}),
        code=_CODE[format_name].format(file=file, names=names if "," in names else f"({names},)"),
        labels=_listed(labels),
    )


def _table(ports: Sequence[TensorSpec], meanings: Mapping[str, str]) -> str:
    return "\n".join(
        f"| `{port.name}` | {port.dtype} | [{', '.join(map(str, port.shape))}] | "
        f"{meanings.get(port.name, 'what the model itself gives')} |"
        for port in ports
    )


def _listed(labels: Sequence[str] | None) -> str:
    if not labels:
        return ""
    return "\nClasses: " + ", ".join(f"{number} {label}" for number, label in enumerate(labels)) + ".\n"
