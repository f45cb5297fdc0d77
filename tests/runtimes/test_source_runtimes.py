"""The runtimes of source formats: the libraries' own answers, under the house's names."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lightgbm
import numpy as np
import pytest
import skops.io
import torch
import xgboost
from sklearn import datasets
from sklearn.linear_model import LogisticRegression

from ferryman.core.artifact import Artifact
from ferryman.core.errors import InputError, PlanError, SourceError
from ferryman.core.plugins import find, runtime_for
from ferryman.core.runtime import Session
from ferryman.core.signature import Array, Signature, TensorSpec

FORMATS = ("torch-export", "torchscript", "torch-weights", "sklearn", "xgboost", "lightgbm", "catboost")
TABLE = datasets.load_iris()
ROWS = TABLE.data.astype(np.float32)
FEATURES = TensorSpec(name="features", dtype="float32", shape=("batch", 4))
SIGNATURE = Signature(
    inputs=(FEATURES,),
    outputs=(
        TensorSpec(name="label", dtype="int64", shape=("batch",)),
        TensorSpec(name="probabilities", dtype="float32", shape=("batch", 3)),
    ),
)
Expected = Callable[[Array], Array]


def sklearn_case(folder: Path) -> tuple[Artifact, Expected]:
    estimator = LogisticRegression(max_iter=500).fit(ROWS, TABLE.target)
    skops.io.dump(estimator, folder / "model.skops")
    loader = {"trust": False, "trusted": [], "columns": False}
    return Artifact(folder / "model.skops", "sklearn", SIGNATURE, "", loader=loader), estimator.predict_proba


def xgboost_case(folder: Path) -> tuple[Artifact, Expected]:
    estimator = xgboost.XGBClassifier(n_estimators=5, n_jobs=1).fit(ROWS, TABLE.target)
    estimator.save_model(folder / "model.json")
    return Artifact(folder / "model.json", "xgboost", SIGNATURE, ""), estimator.predict_proba


def lightgbm_case(folder: Path) -> tuple[Artifact, Expected]:
    booster = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1, n_jobs=1).fit(ROWS, TABLE.target).booster_
    booster.save_model(folder / "model.txt")
    return Artifact(folder / "model.txt", "lightgbm", SIGNATURE, ""), booster.predict


CASES = {"sklearn": sklearn_case, "xgboost": xgboost_case, "lightgbm": lightgbm_case}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Session, Expected]:
    artifact, expected = CASES[request.param](tmp_path)
    session: Session = find("runtimes", request.param).require()().load(artifact, threads=1)
    return session, expected


@pytest.mark.parametrize("name", FORMATS)
def test_a_source_format_is_loaded_to_measure_and_not_to_serve(name: str) -> None:
    assert not runtime_for(name).cls.serves
    with pytest.raises(PlanError):
        runtime_for(name, serves=True)


def test_the_answer_is_the_librarys_own(case: tuple[Session, Expected]) -> None:
    session, expected = case
    answer = session.infer({"features": ROWS})
    wanted = np.asarray(expected(ROWS), np.float64)
    np.testing.assert_allclose(np.asarray(answer["probabilities"], np.float64), wanted, rtol=1e-6)
    assert (answer["label"] == np.argmax(wanted, axis=1)).all()
    assert [answer[name].dtype.name for name in ("label", "probabilities")] == ["int64", "float32"]


def test_several_threads_get_their_own_answers(case: tuple[Session, Expected]) -> None:
    session, expected = case
    wanted = np.asarray(expected(ROWS), np.float64)

    def ask(index: int) -> Array:
        return session.infer({"features": ROWS[index : index + 1]})["probabilities"]

    with ThreadPoolExecutor(4) as pool:
        answers = np.concatenate(list(pool.map(ask, range(len(ROWS)))))
    np.testing.assert_allclose(np.asarray(answers, np.float64), wanted, rtol=1e-5)


def test_wrong_inputs_are_input_errors(case: tuple[Session, Expected]) -> None:
    session, _ = case
    with pytest.raises(InputError, match="no input is called 'rows'"):
        session.infer({"rows": ROWS})
    with pytest.raises(InputError, match="float64"):
        session.infer({"features": ROWS.astype(np.float64)})
    with pytest.raises(InputError, match=r"\[150, 3\]"):
        session.infer({"features": ROWS[:, :3]})


def test_a_closed_session_says_so(case: tuple[Session, Expected]) -> None:
    session, _ = case
    session.close()
    with pytest.raises(InputError, match="closed"):
        session.infer({"features": ROWS})


@pytest.fixture
def program(tmp_path: Path) -> Artifact:
    class Add(torch.nn.Module):  # type: ignore[misc]  # torch's types are skipped by mypy
        def forward(self, left: torch.Tensor, *, right: torch.Tensor) -> torch.Tensor:
            return left - right

    left, right = torch.ones(2, 3), torch.ones(2, 3)
    torch.export.save(torch.export.export(Add(), (left,), {"right": right}), tmp_path / "add.pt2")
    inputs = tuple(TensorSpec(name=name, dtype="float32", shape=(2, 3)) for name in ("left", "right"))
    output = TensorSpec(name="output", dtype="float32", shape=(2, 3))
    return Artifact(tmp_path / "add.pt2", "torch-export", Signature(inputs=inputs, outputs=(output,)), "")


def test_torch_takes_positional_and_named_inputs_and_leaves_threads_alone(program: Artifact) -> None:
    before = torch.get_num_threads()
    session = find("runtimes", "torch").require()().load(program, threads=1)
    left, right = np.full((2, 3), 5, np.float32), np.full((2, 3), 3, np.float32)
    assert (session.infer({"right": right, "left": left})["output"] == 2).all()
    assert torch.get_num_threads() == before
    session.close()
    with pytest.raises(InputError, match="closed"):
        session.infer({"right": right, "left": left})


def test_a_damaged_program_is_a_source_error(program: Artifact) -> None:
    program.path.write_bytes(program.path.read_bytes()[:200])
    with pytest.raises(SourceError, match="torch can't load"):
        find("runtimes", "torch").require()().load(program, threads=1)
