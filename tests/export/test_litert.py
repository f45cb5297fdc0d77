from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferryman.core.artifact import Artifact, digest_file
from ferryman.core.errors import ConfigError, DataError, NotApplicable, StepError
from ferryman.core.signature import Signature, Tensors, TensorSpec
from ferryman.core.step import StepContext
from ferryman.export.litert import ToLiteRT
from ferryman.export.litert_int8 import LiteRTDynamicInt8, LiteRTHalf, LiteRTInt8
from ferryman.runtimes.litert import LiteRTRuntime
from tests.runtimes.making_litert import make_convolution, open_litert

torch = pytest.importorskip("torch", reason="NOT TESTED: the extra torch is not installed")
pytest.importorskip("ai_edge_litert", reason="NOT TESTED: the extra litert is not installed")
pytestmark = pytest.mark.toolchain("litert")

SIDE = 32


class _Net(torch.nn.Module):  # type: ignore[misc,name-defined]  # torch has no types here
    """Be a small residual classifier."""

    def __init__(self, *, flattens: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = torch.nn.Conv2d(3, 48, 3, stride=2, padding=1)
        self.inner = torch.nn.Conv2d(48, 48, 3, padding=1)
        self.head = torch.nn.Linear(48, 5)
        self.flattens = flattens

    def forward(self, images: Any) -> Any:  # torch.Tensor
        features = torch.relu(self.stem(images))
        features = torch.relu(features + self.inner(features)).mean((2, 3), keepdim=self.flattens)
        return self.head(features.reshape(features.shape[0], 48) if self.flattens else features)


def _program(
    path: Path, module: Any, *, batch: int | str = "batch", shape: tuple[int, ...] = (3, SIDE, SIDE)
) -> Artifact:
    example = torch.rand(2 if batch == "batch" else int(batch), *shape)
    free = ({0: torch.export.Dim("batch", min=1, max=64)},) if batch == "batch" else None
    program = torch.export.export(module.eval(), (example,), dynamic_shapes=free)
    torch.export.save(program, path)
    (answer,) = torch.utils._pytree.tree_leaves(program.module()(example))[:1]
    signature = Signature(
        inputs=(TensorSpec(name="pictures of it", dtype="float32", shape=(batch, *shape)),),
        outputs=(TensorSpec(name="scores/é", dtype="float32", shape=(batch, *answer.shape[1:])),),
    )
    return Artifact(path, "torch-export", signature, digest_file(path))


def _pictures(count: int, *, batch: int = 1, seed: int = 0) -> list[Tensors]:
    generator = np.random.default_rng(seed)
    return [{"pictures of it": generator.random((batch, 3, SIDE, SIDE), dtype=np.float32)} for _ in range(count)]


def _answer(artifact: Artifact, item: Tensors) -> "np.typing.NDArray[np.float64]":
    session = LiteRTRuntime().load(artifact, threads=1)
    (answer,) = session.infer(item).values()
    return np.asarray(answer, np.float64)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("litert")
    return ToLiteRT().run(_program(folder / "net.pt2", _Net()), StepContext(folder / "work"))


def test_names_order_and_a_free_batch_are_the_sources(converted: Artifact, tmp_path: Path) -> None:
    assert [(spec.name, spec.shape) for spec in converted.signature.inputs] == [
        ("pictures of it", ("batch", 3, SIDE, SIDE))
    ]
    assert open_litert(converted.path).signature == converted.signature, "the file itself says so too"
    item = _pictures(1, batch=3)[0]
    with torch.no_grad():
        want = _Net().eval()(torch.from_numpy(item["pictures of it"])).numpy()
    np.testing.assert_allclose(_answer(converted, item), want, atol=1e-5)


def test_a_batch_that_the_converter_cannot_keep_free_becomes_one_and_that_is_told(tmp_path: Path) -> None:
    told: list[str] = []

    def tell(stage: str, *, done: int = 0, total: int = 0, note: str = "") -> None:
        told.append(note)

    source = _program(tmp_path / "net.pt2", _Net(flattens=True))
    made = ToLiteRT().run(source, StepContext(tmp_path / "work", progress=tell))
    assert made.signature.inputs[0].shape == (1, 3, SIDE, SIDE)
    assert made.signature.outputs[0].shape == (1, 5)
    assert any("can't keep the batch free" in note for note in told)
    assert _answer(made, _pictures(1)[0]).shape == (1, 5)


def test_a_batch_can_be_fixed(tmp_path: Path) -> None:
    source = _program(tmp_path / "net.pt2", _Net())
    made = ToLiteRT(batch=4).run(source, StepContext(tmp_path / "work"))
    assert open_litert(made.path).signature.max_batch == 4
    assert _answer(made, _pictures(1, batch=4)[0]).shape == (4, 5)


def test_an_operator_that_litert_has_no_way_for_is_named_and_nothing_stays(tmp_path: Path) -> None:
    class Inverts(torch.nn.Module):  # type: ignore[misc,name-defined]  # torch has no types here
        def forward(self, matrices: Any) -> Any:  # torch.Tensor
            return torch.linalg.svd(matrices)[1]

    source = _program(tmp_path / "svd.pt2", Inverts(), batch=1, shape=(4, 4))
    with pytest.raises(StepError, match=r"operator aten\._linalg_svd\.default") as refused:
        ToLiteRT().run(source, StepContext(tmp_path / "work"))
    assert refused.value.hint
    assert not list((tmp_path / "work").iterdir())


def test_inputs_of_64_bits_are_refused_rather_than_narrowed(tmp_path: Path) -> None:
    source = _program(tmp_path / "net.pt2", _Net())
    wide = TensorSpec(name="tokens", dtype="int64", shape=(1, 8))
    changed = Artifact(source.path, source.format, Signature(inputs=(wide,), outputs=()), source.digest)
    with pytest.raises(NotApplicable, match="'tokens' is int64"):
        ToLiteRT().run(changed, StepContext(tmp_path / "work"))


@pytest.mark.parametrize(
    ("make", "share", "error"),
    [(LiteRTHalf, 0.6, 2e-3), (LiteRTDynamicInt8, 0.5, 0.05), (LiteRTInt8, 0.55, 0.05)],
)
def test_smaller_numbers_make_a_smaller_file_and_keep_the_answers(
    make: Callable[[], Any], share: float, error: float, converted: Artifact, tmp_path: Path
) -> None:
    made = make().run(converted, StepContext(tmp_path / "work", _pictures(32)))
    assert made.size_bytes < share * converted.size_bytes
    assert made.signature == converted.signature
    for item in _pictures(4, seed=9):
        want = _answer(converted, item)
        assert np.abs(_answer(made, item) - want).max() <= error * np.abs(want).max()


def test_a_file_of_whole_numbers_only_still_takes_and_gives_real_ones_here(converted: Artifact, tmp_path: Path) -> None:
    made = LiteRTInt8(quantized_io=True).run(converted, StepContext(tmp_path / "work", _pictures(32)))
    assert made.signature == converted.signature
    assert open_litert(made.path).signature.inputs[0].dtype == "int8", "what a device without floats sees"
    item = _pictures(1, seed=9)[0]
    want = _answer(converted, item)
    assert np.abs(_answer(made, item) - want).max() <= 0.06 * np.abs(want).max()


def test_what_is_kept_in_float_is_kept(converted: Artifact, tmp_path: Path) -> None:
    everything = LiteRTInt8().run(converted, StepContext(tmp_path / "all", _pictures(32)))
    headless = LiteRTInt8(exclude_head=True).run(converted, StepContext(tmp_path / "head", _pictures(32)))
    neither = LiteRTInt8(exclude_ops=("FULLY_CONNECTED",)).run(converted, StepContext(tmp_path / "op", _pictures(32)))
    assert headless.size_bytes > everything.size_bytes
    assert neither.size_bytes > everything.size_bytes
    with pytest.raises(StepError, match="no tensor's name has 'nowhere' in it"):
        LiteRTInt8(exclude_nodes=("nowhere",)).run(converted, StepContext(tmp_path / "none", _pictures(32)))
    with pytest.raises(NotApplicable, match="none with weights is left"):
        LiteRTInt8(exclude_ops=("CONV_2D", "FULLY_CONNECTED")).run(
            converted, StepContext(tmp_path / "nothing", _pictures(32))
        )


def test_too_few_or_unfitting_samples_are_the_datas_fault(converted: Artifact, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^litert-int8 needs at least 32 calibration samples; there are 3"):
        LiteRTInt8().run(converted, StepContext(tmp_path / "few", _pictures(3)))
    with pytest.raises(DataError, match="calibration sample 0 does not fit"):
        LiteRTInt8(min_samples=1).run(converted, StepContext(tmp_path / "other", [{"x": np.zeros(3, np.float32)}]))


def test_a_model_that_is_quantized_already_is_left_alone(tmp_path: Path) -> None:
    quantized = open_litert(make_convolution(tmp_path / "model.tflite", quantized=True))
    with pytest.raises(NotApplicable, match="quantized already"):
        LiteRTDynamicInt8().run(quantized, StepContext(tmp_path / "work"))
    assert not list((tmp_path / "work").iterdir())


def test_an_unknown_calibrator_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="calibrator = 'median'") as refused:
        LiteRTInt8(calibrator="median")
    assert "minmax, average" in refused.value.hint
