from typing import Any

import pytest

from ferryman.core.errors import ImageError
from ferryman.oci.descriptor import MANIFEST, Descriptor, Platform

GOOD: dict[str, Any] = {"mediaType": MANIFEST, "digest": "sha256:" + "0" * 64, "size": 3}


def test_a_descriptor_comes_back_as_it_was_written() -> None:
    written = Descriptor(MANIFEST, GOOD["digest"], 3, {"a": "b"}, Platform("linux", "arm", "v7"), "application/x.y")
    assert Descriptor.from_json(written.to_json(), origin="here") == written


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"size": -1}, "size is -1"),
        ({"size": True}, "size is True"),
        ({"size": 2**63}, "size is"),
        ({"size": "3"}, "size is '3'"),
        ({"digest": "sha256:../../../etc/passwd"}, "not a sha256"),
        ({"digest": "sha512:" + "0" * 128}, "not a sha256"),
        ({"digest": "sha256:" + "0" * 64 + "\n"}, "not a sha256"),
        ({"digest": None}, "not a sha256"),
        ({"mediaType": "text\nX-Evil: 1"}, "media type"),
        ({"mediaType": None}, "media type"),
        ({"annotations": {"a": 1}}, "not words"),
        ({"platform": "linux/amd64"}, "not a table"),
        ({"platform": {"os": 1}}, "not made of words"),
    ],
)
def test_a_hostile_descriptor_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ImageError, match=says):
        Descriptor.from_json({**GOOD, **change}, origin="here")
    with pytest.raises(ImageError, match="not a descriptor"):
        Descriptor.from_json([], origin="here")


def test_platforms_are_read_and_compared() -> None:
    assert Platform.parse("linux/arm/v7") == Platform("linux", "arm", "v7")
    assert str(Platform.parse("linux/amd64")) == "linux/amd64"
    assert Platform.parse("linux/arm64").runs(Platform("linux", "arm64", "v8"))
    assert Platform.parse("linux/arm64/v8").runs(Platform("linux", "arm64"))
    assert not Platform.parse("linux/arm/v7").runs(Platform("linux", "arm", "v6"))
    for wrong in ("amd64", "linux/", "linux/amd64/x/y", "Linux/amd64"):
        with pytest.raises(ImageError, match="not a platform"):
            Platform.parse(wrong)
