"""An answer is the same whoever else asks: under load over both protocols, batched or not, for every task."""

import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from onnx import TensorProto, helper
from tritonclient.utils import np_to_triton_dtype

from ferryman.bundle.read import load_bundle
from ferryman.client.http import Client
from ferryman.core.plugins import runtime_for
from ferryman.core.signature import Array
from ferryman.core.task import Answer, Item, Task, bind_task, infer_items
from tests.bundle.making import (
    SIDE,
    bundle_model,
    encode_picture,
    make_affine,
    make_table_model,
    save,
)
from tests.server.running import Running, running

ASKERS = 12
"""Threads that ask over HTTP, while all of the same is asked over gRPC at once."""


@dataclass(frozen=True)
class Known:
    """Hold a bundle, and what the library answers alone."""

    name: str
    path: Path
    task: Task
    items: Sequence[Item]
    tensors: Sequence[dict[str, Array]]
    alone: Sequence[Answer]

    def answer_of(self, item: Item, outputs: dict[str, Array]) -> Answer:
        """Make what the model gave over gRPC an answer, as a client of tensors does."""
        return self.task.postprocess(outputs, self.task.preprocess([item]))[0]

    def difference(self, place: int, answer: Answer) -> dict[str, float]:
        """Give the figures in which an answer differs from the one of nobody else asking; none are."""
        return self.task.agreement([self.alone[place]], [answer]).beyond(self.task.tolerance)


def know(path: Path, items: Sequence[Item]) -> Known:
    bundle = load_bundle(path)
    session = runtime_for("onnx").require()().load(bundle.artifact, threads=1)
    task = bind_task(bundle.deployment.task, session.signature)
    tensors = [task.preprocess([item]).inputs for item in items]
    alone = [infer_items(task, session, [item])[0] for item in items]
    session.close()
    return Known(bundle.manifest.name, path, task, items, tensors, alone)


def picture(seed: int) -> bytes:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (40 + 7 * (seed % 5), 60, 3), np.uint8) * random.random(3)
    return encode_picture(pixels.astype(np.uint8), ".png")


def make_colours(folder: Path) -> Path:
    """Write a classifier by colour for any number of pictures."""
    return save(
        folder / "colours.onnx",
        [
            helper.make_node("GlobalAveragePool", ["picture"], ["means"]),
            helper.make_node("Flatten", ["means"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
        ],
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3])],
    )


def make_boxes(folder: Path) -> Path:
    """Write a detector of three boxes, whose places and scores are those of a picture's colours."""
    weights, place = np.zeros((3, 3, 6), np.float32), np.zeros((3, 6), np.float32)
    for box in range(3):
        weights[box, box] = [4, 4, 12, 12, 0.9, 0]
        place[box] = [1 + box, 2, 12 + box, 14, 0.05, box]
    return save(
        folder / "boxes.onnx",
        [
            helper.make_node("GlobalAveragePool", ["picture"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["means"]),
            helper.make_node("MatMul", ["means", "weights"], ["moved"]),
            helper.make_node("Add", ["moved", "place"], ["rows"]),
            helper.make_node("Reshape", ["rows", "shape"], ["boxes"]),
        ],
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["batch", 3, 6])],
        weights=weights.reshape(3, 18),
        place=place.reshape(1, 18),
        shape=np.array([-1, 3, 6], np.int64),
    )


def bundled(folder: Path, name: str, model: Path, task: dict[str, Any], items: Sequence[Item]) -> Known:  # TOML
    path = bundle_model(folder / name, model, task, items[:3], name=name).path
    return know(path, items)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Known]:
    folder = tmp_path_factory.mktemp("tasks")
    models, random = folder / "models", np.random.default_rng(7)
    arrays: list[Item] = [
        {"values": (random.normal(size=(1, 3)) * 10 ** (seed % 6)).astype(np.float32)} for seed in range(40)
    ]
    rows: list[Item] = [
        dict(zip(("width", "height", "weight"), map(float, cells), strict=True)) for cells in random.random((40, 3))
    ]
    pictures: list[Item] = [picture(seed) for seed in range(24)]
    image = {"size": [SIDE, SIDE], "fit": "letterbox", "scale": 1 / 255}
    table = {"kind": "tabular", "columns": ["width", "height", "weight"], "labels": ["light", "heavy"]}
    classify = {"kind": "classify", "labels": ["blue", "green", "red"], "input": image}
    detect = {"kind": "detect", "decoder": "end2end", "labels": ["blue", "green", "red"], "input": image}
    made = [
        bundled(folder, "tensor", make_affine(models), {"kind": "tensor"}, arrays),
        bundled(folder, "tabular", make_table_model(models), table, rows),
        bundled(folder, "classify", make_colours(models), classify, pictures),
        bundled(folder, "detect", make_boxes(models), detect, pictures),
    ]
    return {known.name: known for known in made}


@pytest.fixture(scope="module")
def batching(tasks: dict[str, Known]) -> Iterator[Running]:
    with running([known.path for known in tasks.values()], max_batch=16, processes=1, instances=1, threads=1) as server:
        yield server


@contextmanager
def asking_over_grpc(server: Running, known: Known, answers: list[tuple[int, Answer]]) -> Iterator[None]:
    """Ask about every item three times, while the block runs; gives the answers at its end."""
    outcomes: list[tuple[int, Any, Any]] = []  # tritonclient's own results and errors
    heard = threading.Event()
    places = [place for place in range(len(known.items)) for _ in range(3)]

    def hear(place: int, result: Any, error: Any) -> None:
        outcomes.append((place, result, error))
        if len(outcomes) == len(places):
            heard.set()

    with triton.InferenceServerClient(server.address) as client:
        for place in places:
            inputs = []
            for name, array in known.tensors[place].items():
                tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
                tensor.set_data_from_numpy(array)
                inputs.append(tensor)
            client.async_infer(known.name, inputs, partial(hear, place))
        yield
        assert heard.wait(60)
    for place, result, error in outcomes:
        assert error is None, error
        outputs = {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}
        answers.append((place, known.answer_of(known.items[place], outputs)))


def ask_over_http(server: Running, known: Known) -> list[tuple[int, Answer]]:
    """Ask about every item three times, from several threads."""
    gate = threading.Barrier(ASKERS)

    def ask(first: int) -> list[tuple[int, Answer]]:
        with Client(server.url) as client:
            gate.wait(20)
            places = [place % len(known.items) for place in range(first, first + 3 * len(known.items), ASKERS)]
            return [(place, asked(client, known, place)) for place in places]

    with ThreadPoolExecutor(ASKERS) as pool:
        return [answer for answers in pool.map(ask, range(ASKERS)) for answer in answers]


def asked(client: Client, known: Known, place: int) -> Answer:
    if known.name == "tensor":
        outputs = client.infer_tensors(known.name, known.tensors[place])
        return known.answer_of(known.items[place], outputs)
    return client.infer_item(known.name, known.items[place])


def calls_of(server: Running, model: str) -> tuple[float, float]:
    """Give how many calls the engine had, and how many rows."""
    text = server.ask("GET", "/metrics")[1].decode()

    def figure(kind: str) -> float:
        return float(re.findall(rf'^ferryman_batch_rows_{kind}{{model="{model}".*}} (\S+)$', text, re.MULTILINE)[0])

    return figure("count"), figure("sum")


@pytest.mark.parametrize("name", ["tensor", "tabular", "classify", "detect"])
def test_every_answer_among_many_is_the_answer_alone(batching: Running, tasks: dict[str, Known], name: str) -> None:
    known = tasks[name]
    assert known.difference(0, known.alone[1]), "another's answer would show"
    assert batching.ask("GET", f"/v2/models/{name}")[1]["parameters"]["max_batch"] > 1
    calls_before, rows_before = calls_of(batching, name)
    answers: list[tuple[int, Answer]] = []
    with asking_over_grpc(batching, known, answers):
        answers += ask_over_http(batching, known)
    assert {place for place, _ in answers} == set(range(len(known.items)))
    assert len(answers) >= 6 * len(known.items)
    different = {place: known.difference(place, answer) for place, answer in answers}
    assert {place: figures for place, figures in different.items() if figures} == {}
    calls, rows = calls_of(batching, name)
    assert rows - rows_before >= len(answers), "each was asked of the engine"
    assert calls - calls_before < rows - rows_before, "some shared a call"


def test_answers_alone_are_those_of_the_library(batching: Running, tasks: dict[str, Known]) -> None:
    with Client(batching.url) as client:
        for known in tasks.values():
            answers = [asked(client, known, place) for place in range(len(known.items))]
            assert [known.difference(place, answer) for place, answer in enumerate(answers)] == [{}] * len(answers)


def test_requests_of_several_rows_get_their_own_rows_back(batching: Running, tasks: dict[str, Known]) -> None:
    known = tasks["tabular"]

    def ask(first: int) -> list[Answer]:
        rows = [known.items[(first + more) % len(known.items)] for more in range(1 + first % 5)]
        status, answer = batching.infer("tabular", {"rows": rows})
        assert status == 200
        given: list[Answer] = answer["answers"]
        return given

    with ThreadPoolExecutor(ASKERS) as pool:
        for first, answers in enumerate(pool.map(ask, range(120))):
            assert len(answers) == 1 + first % 5
            for more, answer in enumerate(answers):
                assert known.difference((first + more) % len(known.items), answer) == {}


def test_one_wrong_request_does_not_spoil_the_answers_beside_it(batching: Running, tasks: dict[str, Known]) -> None:
    known = tasks["tabular"]
    with ThreadPoolExecutor(ASKERS) as pool:
        wrong = [{"rows": [{"width": "wide", "height": 1, "weight": 1}]}, {"rows": [{"width": 1}]}]
        requests = [wrong[place // 3 % 2] if place % 3 == 0 else {"rows": [known.items[1]]} for place in range(90)]
        answers = list(pool.map(lambda request: batching.infer("tabular", request), requests))
    for place, (status, answer) in enumerate(answers):
        if place % 3 == 0:
            assert status == 400
            assert answer["error"]
        else:
            assert status == 200
            assert known.difference(1, answer["answers"][0]) == {}


def test_real_models_answer_among_many_as_they_do_alone(shared_data: Path, tmp_path: Path) -> None:
    pictures: list[Item] = [*sorted((shared_data / "coco128_val").rglob("*.jpg"))[:8]]
    models = shared_data / "models"
    street = {
        "kind": "detect",
        "decoder": "yolox",
        "labels": (models / "coco80.names").read_text().split("\n")[:80],
        "input": {"size": [416, 416], "fit": "letterbox", "anchor": "top-left", "pad": 114, "channels": "BGR"},
        "nms": {"iou": 0.65, "score": 0.3},
    }
    squeeze = {"kind": "classify", "input": {"size": [227, 227], "fit": "stretch"}}
    known = [
        bundled(tmp_path, "street", models / "yolox_nano.onnx", street, pictures),
        bundled(tmp_path, "squeeze", models / "squeezenet_v1.1.onnx", squeeze, pictures),
    ]
    with running([one.path for one in known], max_batch=4, threads=1) as server:
        for one in known:
            answers: list[tuple[int, Answer]] = []
            with asking_over_grpc(server, one, answers):
                answers += ask_over_http(server, one)
            assert len(answers) >= 6 * len(pictures)
            assert {place: found for place, answer in answers if (found := one.difference(place, answer))} == {}
