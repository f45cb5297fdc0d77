"""What every runtime holds, built in or not: run this on yours by installing it."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ferryman.core.artifact import Artifact, digest_path
from ferryman.core.errors import FerrymanError, InputError
from ferryman.core.plugins import Plugin, plugins
from ferryman.core.runtime import Session
from ferryman.core.signature import Array
from tests.conformance.making import inputs_for, make, marks_of


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=marks_of("runtimes", name)) for name in plugins("runtimes")]
)
def runtime(request: pytest.FixtureRequest) -> Plugin:
    plugin = plugins("runtimes")[request.param]
    if not plugin.is_available:
        pytest.skip(f"NOT TESTED: runtime '{plugin.name}' lacks {', '.join(plugin.missing)}")
    return plugin


@pytest.fixture(scope="module")
def artifact(runtime: Plugin, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make(min(runtime.cls.formats), tmp_path_factory.mktemp("runtime"))


@pytest.fixture(scope="module")
def session(runtime: Plugin, artifact: Artifact) -> Iterator[Session]:
    """Load the model once for the tests that only ask: some runtimes take seconds for it."""
    opened = runtime.cls().load(artifact, threads=1)
    yield opened
    opened.close()


def _same(left: dict[str, Array], right: dict[str, Array]) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


def test_it_says_what_it_is(runtime: Plugin) -> None:
    assert runtime.cls.name == runtime.name
    assert runtime.cls.formats
    assert isinstance(runtime.cls.serves, bool)
    assert isinstance(runtime.cls.targets, tuple)
    assert all(name.isidentifier() and name.islower() for name in runtime.cls.targets), "one plain word a target"
    assert "server" in runtime.cls.targets or not runtime.cls.serves, "what is served runs on a server"
    assert runtime.summary.endswith(".")


def test_answers_have_the_signature_that_was_promised(session: Session, artifact: Artifact) -> None:
    assert session.signature == artifact.signature
    answer = session.infer(inputs_for(artifact.signature))
    assert list(answer) == [spec.name for spec in artifact.signature.outputs]
    for spec in artifact.signature.outputs:
        spec.check(answer[spec.name])


def test_the_same_question_has_the_same_answer(session: Session, artifact: Artifact) -> None:
    inputs = inputs_for(artifact.signature)
    assert _same(session.infer(inputs), session.infer(inputs))


def test_a_question_is_not_changed_by_the_answer(session: Session, artifact: Artifact) -> None:
    inputs = inputs_for(artifact.signature)
    before = {name: value.copy() for name, value in inputs.items()}
    session.infer(inputs)
    assert all(np.array_equal(inputs[name], before[name]) for name in before)


def test_an_answer_belongs_to_the_caller_and_the_files_stay_as_they_were(runtime: Plugin, artifact: Artifact) -> None:
    files = digest_path(artifact.path)
    session = runtime.cls().load(artifact, threads=1)
    first = session.infer(inputs_for(artifact.signature, seed=1))
    before = {name: value.copy() for name, value in first.items()}
    session.infer(inputs_for(artifact.signature, seed=2))
    session.close()
    assert _same(first, before)
    assert digest_path(artifact.path) == files


def test_threads_get_the_answers_to_their_own_questions(session: Session, artifact: Artifact) -> None:
    questions = [inputs_for(artifact.signature, seed=seed) for seed in range(12)]
    want = [session.infer(question) for question in questions]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(session.infer, questions))
    assert all(_same(left, right) for left, right in zip(want, got, strict=True))


def test_wrong_questions_are_the_users_error(session: Session, artifact: Artifact) -> None:
    good = inputs_for(artifact.signature)
    name = artifact.signature.inputs[0].name
    for wrong in ({}, {**good, "no such input": good[name]}, {**good, name: good[name][None]}):
        with pytest.raises(InputError):
            session.infer(wrong)
    with pytest.raises(InputError):
        session.infer({**good, name: good[name].astype(np.complex64)})
    assert session.infer(good)


def test_a_damaged_file_is_refused_with_an_error_of_ours(runtime: Plugin, artifact: Artifact, tmp_path: Path) -> None:
    if not runtime.cls.serves:
        pytest.skip("only its source, which checks the file, ever hands it one")
    copied = tmp_path / artifact.path.name
    if artifact.path.is_file():
        copied.write_bytes(b"damaged")
    else:
        shutil.copytree(artifact.path, copied)
    for path in copied.iterdir() if copied.is_dir() else ():
        path.write_bytes(b"damaged")
    with pytest.raises(FerrymanError):
        runtime.cls().load(replace(artifact, path=copied), threads=1)
