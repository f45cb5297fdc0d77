from pathlib import Path

import pytest

from ferryman.core.errors import FerrymanError
from ferryman.oci.reference import Reference, means_image

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alpine", ("docker.io", "library/alpine", "latest", "")),
        ("someone/model:2", ("docker.io", "someone/model", "2", "")),
        ("docker.io/alpine", ("docker.io", "library/alpine", "latest", "")),
        ("index.docker.io/a/b", ("docker.io", "a/b", "latest", "")),
        ("localhost/a", ("localhost", "a", "latest", "")),
        ("localhost:5000/a/b:1.0", ("localhost:5000", "a/b", "1.0", "")),
        ("[::1]:5000/a", ("[::1]:5000", "a", "latest", "")),
        ("ghcr.io/o/a__b/c-d.e:T_1", ("ghcr.io", "o/a__b/c-d.e", "T_1", "")),
        (f"host.example/a@{DIGEST}", ("host.example", "a", "", DIGEST)),
        (f"host.example/a:1@{DIGEST}", ("host.example", "a", "1", DIGEST)),
    ],
)
def test_a_reference_is_read_as_docker_reads_it(text: str, expected: tuple[str, str, str, str]) -> None:
    found = Reference.parse(text)
    assert (found.host, found.repository, found.tag, found.digest) == expected
    assert Reference.parse(str(found)) == found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a repository"),
        ("host.example/", "not a repository"),
        ("host.example/Name", "small letters: name"),
        ("host.example/../etc", "not a repository"),
        ("host.example/a//b", "not a repository"),
        ("host.example/a:", "not a tag"),
        ("host.example/a:-x", "not a tag"),
        ("host.example/a:" + "x" * 129, "not a tag"),
        ("host.example/a:1?x=y", "not a tag"),
        ("host.example/a@sha256:abc", "not a sha256"),
        ("host.example/a@", "not a sha256"),
        ("us er@host.example/a", "not a sha256"),
        ("ho_st:99999999/a", "not a registry's host"),
        ("host.example/" + "a" * 300, "longer than 255"),
        ("https://host.example/a", "write host.example/a"),
        ("host.example/a\n", "not a repository"),
    ],
)
def test_a_wrong_reference_is_refused_with_the_part_that_is_wrong(text: str, says: str) -> None:
    with pytest.raises(FerrymanError) as refused:
        Reference.parse(text)
    assert says in f"{refused.value} {refused.value.hint}"


def test_docker_hub_answers_at_another_host_than_it_is_called() -> None:
    assert Reference.parse("alpine").api_host == "registry-1.docker.io"
    assert Reference.parse("ghcr.io/a").api_host == "ghcr.io"


@pytest.mark.parametrize("name", ["registry.example/a", "localhost:5000/a", "a/b:1", "alpine:3", f"a/b@{DIGEST}"])
def test_a_name_with_a_host_a_tag_or_a_digest_means_an_image(name: str) -> None:
    assert means_image(name)


@pytest.mark.parametrize("name", ["dist/street", "../street:1", "dist/a:1.ferry", "A/B:1", "a/b@sha256:0", ""])
def test_another_name_means_a_path(name: str) -> None:
    assert not means_image(name)


def test_a_path_that_is_there_means_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a:1").mkdir()
    assert not means_image("a:1")
