import contextlib
import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ferryman.core.errors import ImageError, RegistryError
from ferryman.oci._session import Session
from ferryman.oci._wire import Broken, Wire
from ferryman.oci.auth import Credentials
from ferryman.oci.blobs import Blobs
from ferryman.oci.descriptor import INDEX, Descriptor
from ferryman.oci.image import read_image, write_artifact
from ferryman.oci.reference import Reference
from ferryman.oci.registry import Registry, Retry
from tests.oci.making import make_image
from tests.oci.registries import Cutter, Reply, Request, scripted, wait_for

pytestmark = pytest.mark.tool("docker-registry")
SIZE = 8_000_000
CONTENT = random.Random(7).randbytes(SIZE)
PULL = """
import sys; from pathlib import Path; from ferryman.oci.blobs import Blobs
from ferryman.oci.reference import Reference; from ferryman.oci.registry import Registry
reference = Reference.parse(sys.argv[1])
Registry.of(reference).pull(reference, Blobs(Path(sys.argv[2])))
"""
OF_INDEX = {"Content-Type": INDEX}
Answers = Reply | Callable[[Request], Reply]
QUICKLY = Retry(attempts=4, first_s=0.01, longest_s=0.05)


def test_a_download_that_breaks_goes_on_where_it_broke(registry_host: str, tmp_path: Path) -> None:
    mine, reference = Blobs(tmp_path / "mine"), Reference.parse(f"{registry_host}/cut/down:1")
    image = make_image(mine, CONTENT)
    with Registry.of(reference) as registry:
        registry.push(mine, image, reference)
    with Cutter(registry_host, down_limits=[3_000_000, 2_000_000, 1_000_000]).running() as cutter:
        theirs, there = Blobs(tmp_path / "theirs"), Reference.parse(f"{cutter.host}/cut/down:1")
        with Registry(cutter.host, retry=QUICKLY) as registry:
            registry.pull(there, theirs)
        assert cutter.cuts == 3
        assert SIZE < cutter.down_bytes < SIZE * 1.1  # no byte twice, but for what was on its way
    assert read_image(theirs, image).diff_ids == read_image(mine, image).diff_ids
    assert [path.name for path in theirs.folder.iterdir()] == ["blobs"]


def test_a_pull_that_was_killed_goes_on_in_the_next_process(registry_host: str, tmp_path: Path) -> None:
    mine, reference = Blobs(tmp_path / "mine"), Reference.parse(f"{registry_host}/cut/killed:1")
    image = make_image(mine, CONTENT)
    layer = read_image(mine, image).layers[0]
    with Registry.of(reference) as registry:
        registry.push(mine, image, reference)
    theirs = Blobs(tmp_path / "theirs")
    partial = theirs.folder / ".partial" / layer.digest.partition(":")[2]
    with Cutter(registry_host, down_limits=[5_000_000], stalls=True).running() as cutter:
        pulling = subprocess.Popen([sys.executable, "-c", PULL, f"{cutter.host}/cut/killed:1", str(theirs.folder)])
        wait_for(lambda: partial.is_file() and partial.stat().st_size > 3_000_000)
        os.kill(pulling.pid, signal.SIGKILL)
        pulling.wait(timeout=10)
    had = partial.stat().st_size
    with Cutter(registry_host).running() as cutter, Registry(cutter.host) as registry:
        registry.pull(Reference.parse(f"{cutter.host}/cut/killed:1"), theirs)
        assert cutter.down_bytes < SIZE - had + 100_000
    theirs.check_descriptor(layer)


def test_a_full_disk_is_said_and_a_pull_goes_on_once_there_is_room(registry_host: str, tmp_path: Path) -> None:
    mine, reference = Blobs(tmp_path / "mine"), Reference.parse(f"{registry_host}/cut/full:1")
    image = make_image(mine, CONTENT)
    with Registry.of(reference) as registry:
        registry.push(mine, image, reference)
    limit = (3_000_000, 3_000_000)
    full = subprocess.run(
        [sys.executable, "-c", f"import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n{PULL}",
         str(reference), str(tmp_path / "theirs")],
        capture_output=True, text=True, timeout=60, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),  # as a full disk: EFBIG
    )  # fmt: skip
    assert "the disk is full" in full.stderr
    with Cutter(registry_host).running() as cutter, Registry(cutter.host) as registry:
        registry.pull(Reference.parse(f"{cutter.host}/cut/full:1"), Blobs(tmp_path / "theirs"))
        assert cutter.down_bytes < SIZE - 2_900_000
    assert read_image(Blobs(tmp_path / "theirs"), image).config.user


def test_a_partial_file_that_was_damaged_is_fetched_anew(registry_host: str, tmp_path: Path) -> None:
    mine, reference = Blobs(tmp_path / "mine"), Reference.parse(f"{registry_host}/cut/damaged:1")
    image = make_image(mine, CONTENT[:100_000])
    layer = read_image(mine, image).layers[0]
    theirs = Blobs(tmp_path / "theirs")
    partial = theirs.folder / ".partial" / layer.digest.partition(":")[2]
    partial.parent.mkdir(parents=True)
    with Registry.of(reference) as registry:
        registry.push(mine, image, reference)
        for left in (bytes(50_000), bytes(200_000), bytes(layer.size)):
            partial.parent.mkdir(exist_ok=True)
            partial.write_bytes(left)
            theirs.remove(layer.digest)
            registry.pull(reference, theirs)
            theirs.check_descriptor(layer)


def test_an_upload_that_breaks_is_finished(registry_host: str, tmp_path: Path) -> None:
    mine = Blobs(tmp_path)
    image = make_image(mine, CONTENT)
    with Cutter(registry_host, up_limits=[3_000_000, 5_000_000]).running() as cutter:
        reference = Reference.parse(f"{cutter.host}/cut/up:1")
        with Registry(cutter.host, retry=QUICKLY) as registry:
            assert registry.push(mine, image, reference).sent_bytes > SIZE
        assert cutter.cuts == 2
    with Registry(registry_host) as registry:
        back = Blobs(tmp_path / "back")
        registry.pull(Reference.parse(f"{registry_host}/cut/up:1"), back)
        assert read_image(back, image).diff_ids == read_image(mine, image).diff_ids


class Resuming:
    """Take uploads as distribution-spec v1.1 has it ("Pushing a blob in chunks", and GET for what arrived)."""

    def __init__(self, breaks: list[int]) -> None:
        self.breaks = breaks
        self.arrived = bytearray()
        self.blobs: dict[str, bytes] = {}

    def __call__(self, request: Request) -> Reply:
        if request.method == "HEAD":
            held = self.blobs.get(request.path.rpartition("/")[2])
            return Reply(404) if held is None else Reply(200, held)
        if request.method == "GET":
            return Reply(
                204, headers={"Location": "/v2/a/blobs/uploads/7?go=on", "Range": f"0-{len(self.arrived) - 1}"}
            )
        if request.method == "POST":
            self.arrived.clear()
            return Reply(202, headers={"Location": "/v2/a/blobs/uploads/7"})
        if request.method == "PATCH":
            found = re.fullmatch(r"(\d+)-(\d+)", request.headers["content-range"])
            assert found and int(found[1]) == len(self.arrived) and "go" in request.query
        if self.breaks and request.body:
            self.arrived += request.body[: self.breaks.pop(0)]
            return Reply(500)
        self.arrived += request.body
        if request.method == "PUT":
            digest = request.query["digest"][0]
            assert Blobs.digest_of(bytes(self.arrived)) == digest
            self.blobs[digest] = bytes(self.arrived)
            return Reply(201)
        return Reply(202, headers={"Location": "/v2/a/blobs/uploads/7?go=on"})


def test_a_registry_that_can_is_sent_only_the_rest(tmp_path: Path) -> None:
    mine = Blobs(tmp_path)
    blob = Descriptor("application/octet-stream", *mine.add_bytes(CONTENT))
    artifact = write_artifact(mine, "application/x.test", layers=[blob])
    taking = Resuming(breaks=[])
    with scripted({"/v2/a/blobs": taking, "/v2/a/manifests": Reply(201), "/v2/": Reply(200)}) as server:
        with Registry(server.host, retry=QUICKLY) as registry:
            # one blob after the other, as this server has one upload at a time
            registry.push(
                mine, write_artifact(mine, "application/x.empty", layers=[]), Reference.parse(f"{server.host}/a")
            )
            taking.breaks = [2_000_000, 1_000_000]
            registry.push(mine, artifact, Reference.parse(f"{server.host}/a:2"))
        sent = [len(one.body) for one in server.requests if one.method in ("PUT", "PATCH") and "blobs" in one.path]
    assert taking.blobs[blob.digest] == CONTENT
    assert sent[-4:] == [SIZE, SIZE - 2_000_000, SIZE - 3_000_000, 0]


def lying(image: Descriptor, mine: Blobs, answer: Reply) -> dict[str, Reply]:
    """Give what a registry answers whose blobs are `answer`."""
    manifest = mine.read(image.digest)
    return {
        "/v2/": Reply(200),
        "/v2/a/manifests/": Reply(200, manifest, {"Content-Type": image.media_type}),
        "/v2/a/blobs/": answer,
    }


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Reply(200, bytes(10_000)), "gives more than the"),
        (Reply(200, bytes(10_000), {"Content-Length": "1"}), "gives other bytes|ends after"),
        (Reply(206, bytes(10), {"Content-Range": "bytes 99-108/109"}), "gives others"),
        (Reply(206, bytes(10)), "gives others"),
        (Reply(416), "answers 416"),
        (Reply(403, b'{"errors": [{"code": "DENIED", "message": "no\x1b[31m way"}]}'), "doesn't allow it"),
        (Reply(200, b"short"), "ends after 5 of"),
        (Reply(302, b"", {"Location": "ftp://elsewhere/x"}), "which is not https"),
        (Reply(302, b"", {"Location": "https://user@elsewhere/x"}), "sends us to"),
        (Reply(307, b"", {"Location": "/v2/a/blobs/again"}), "sends us on more than 5 times"),
        (Reply(503, b"", {"Retry-After": "86400"}), "no question for 86400 s"),
        (Reply(500), "can't now: 500"),
    ],
)
def test_a_registry_that_lies_fills_no_disk_and_is_named(tmp_path: Path, answer: Reply, says: str) -> None:
    mine, theirs = Blobs(tmp_path / "mine"), Blobs(tmp_path / "theirs")
    image = make_image(mine)
    with (
        scripted(lying(image, mine, answer)) as server,
        Registry(server.host, retry=QUICKLY) as registry,
        pytest.raises((ImageError, RegistryError), match=says),
    ):
        registry.pull(Reference.parse(f"{server.host}/a"), theirs)
    kept = [path for path in theirs.folder.rglob("*") if path.is_file()]
    assert all(path.stat().st_size <= 5 for path in kept)
    assert not theirs.has(image.digest)


def test_a_blob_of_the_right_size_with_other_bytes_is_refused(tmp_path: Path) -> None:
    mine, theirs = Blobs(tmp_path / "mine"), Blobs(tmp_path / "theirs")
    image = make_image(mine)

    def other(request: Request) -> Reply:
        return Reply(200, bytes(mine.path(request.path.rpartition("/")[2]).stat().st_size))

    answers: dict[str, Answers] = {**lying(image, mine, Reply(404)), "/v2/a/blobs/": other}
    with (
        scripted(answers) as server,
        Registry(server.host, retry=QUICKLY) as registry,
        pytest.raises(ImageError, match="gives other bytes than sha256:"),
    ):
        registry.pull(Reference.parse(f"{server.host}/a"), theirs)
    assert not (theirs.folder / "blobs").exists()


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (Reply(200, b" " * (4 * 1024 * 1024 + 1), OF_INDEX), "more than"),
        (Reply(200, b'{"schemaVersion": 2}', {"Content-Type": "text/html"}), "text/html are not read"),
        (Reply(200, b"<html>", OF_INDEX), "not valid JSON"),
        (Reply(200, b"{}", {"Docker-Content-Digest": "sha256:" + "0" * 64}), "gives another manifest"),
        (Reply(200, b'{"schemaVersion": 1}', OF_INDEX), "schema version 2"),
    ],
)
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, reply: Reply, says: str) -> None:
    with (
        scripted({"/v2/": Reply(200), "/v2/a/manifests/": reply}) as server,
        Registry(server.host) as registry,
        pytest.raises(ImageError, match=says),
    ):
        registry.pull(Reference.parse(f"{server.host}/a"), Blobs(tmp_path))


def test_another_hosts_storage_learns_no_password_and_gives_the_rest_too(tmp_path: Path) -> None:
    mine, theirs = Blobs(tmp_path / "mine"), Blobs(tmp_path / "theirs")
    image = make_image(mine)

    def blob(request: Request) -> Reply:
        payload = mine.path(request.path.rpartition("/")[2]).read_bytes()
        if "range" in request.headers:
            begin = int(request.headers["range"].removeprefix("bytes=").rstrip("-"))
            return Reply(206, payload[begin:], {"Content-Range": f"bytes {begin}-{len(payload) - 1}/{len(payload)}"})
        return Reply(200, payload, cut_after=20)

    with scripted({"/store/": blob}) as storage:

        def front(request: Request) -> Reply:
            if "authorization" not in request.headers:
                return Reply(401, headers={"WWW-Authenticate": 'Basic realm="x"'})
            digest = request.path.rpartition("/")[2]
            return Reply(307, headers={"Location": f"http://{storage.host}/store/{digest}?signed=yes"})

        with (
            scripted({**lying(image, mine, Reply(404)), "/v2/a/blobs/": front}) as server,
            Registry(server.host, auth=Credentials("ada", "secret"), retry=QUICKLY) as registry,
        ):
            registry.pull(Reference.parse(f"{server.host}/a"), theirs)
        assert storage.requests and not any("authorization" in one.headers for one in storage.requests)
        assert any("range" in one.headers for one in storage.requests)
    assert read_image(theirs, image).config.user == "65532:65532"


def test_a_registry_that_is_busy_is_asked_again_when_it_says(tmp_path: Path) -> None:
    mine, busy = Blobs(tmp_path / "mine"), [Reply(429, headers={"Retry-After": "0"}), Reply(503), Reply(502)]
    image = make_image(mine)
    good = lying(image, mine, Reply(404))["/v2/a/manifests/"]
    answers: dict[str, Answers] = {"/v2/": Reply(200), "/v2/a/manifests/": lambda _: busy.pop(0) if busy else good}
    with scripted(answers) as server, Registry(server.host, retry=QUICKLY) as registry:
        assert registry.resolve(Reference.parse(f"{server.host}/a")).digest == image.digest


def test_a_proxy_is_asked_with_its_password_and_for_far_hosts_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted({"/": Reply(200)}) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("http_proxy", f"http://ada:secret@{proxy.host}")
        monkeypatch.setenv("no_proxy", "near.invalid")
        wire = Wire()
        with wire.ask("GET", "http://far.example/v2/", {}, None) as answer:
            assert answer.status == 200
        assert proxy.requests[-1].headers["proxy-authorization"] == "Basic YWRhOnNlY3JldA=="
        assert proxy.requests[-1].headers["host"] == "far.example"
        with scripted({"/": Reply(204)}) as near, wire.ask("GET", f"http://{near.host}/", {}, None) as answer:
            assert answer.status == 204  # this machine is never asked through a proxy
        with pytest.raises(RegistryError, match=r"no host is called near\.invalid"):
            wire.ask("GET", "http://near.invalid/", {}, None)
        wire.close()


def test_plain_http_to_another_machine_wants_to_be_meant() -> None:
    session = Session("far.example", Wire(), lambda: None, insecure=False, retry=QUICKLY)
    with pytest.raises(RegistryError, match="not https") as refused:
        session.ask("GET", "http://far.example/v2/")
    assert "--insecure" in refused.value.hint


def test_a_registry_of_this_machine_draws_no_password_over_plain_http_to_another_one() -> None:
    challenge = {"WWW-Authenticate": 'Bearer realm="http://far.example/token",service="s"'}
    with scripted({"/v2/": Reply(401, headers=challenge)}) as server:
        known = Credentials("ada", "secret")
        with (
            Registry(server.host, auth=known, retry=QUICKLY) as registry,
            pytest.raises(RegistryError, match=r"sends us to http://far\.example, which is not https"),
        ):
            registry.tags("a")


def test_a_manifest_that_breaks_off_is_told_in_words() -> None:
    with (
        scripted({"/v2/": Reply(200), "/v2/a/manifests/": Reply(200, b"{" * 100, OF_INDEX, cut_after=50)}) as server,
        Registry(server.host, retry=QUICKLY) as registry,
        pytest.raises(RegistryError, match="the connection broke"),
    ):
        registry.resolve(Reference.parse(f"{server.host}/a"))


def test_what_has_another_digest_is_not_pushed_under_it(tmp_path: Path) -> None:
    blobs, wrong = Blobs(tmp_path), f"nowhere.invalid/a:1@sha256:{'0' * 64}"
    with Registry("nowhere.invalid") as registry, pytest.raises(RegistryError, match="is another's name"):
        registry.push(blobs, make_image(blobs), Reference.parse(wrong))


def test_a_manifest_that_breaks_off_once_is_asked_for_again(registry_host: str, tmp_path: Path) -> None:
    blobs, reference = Blobs(tmp_path), Reference.parse(f"{registry_host}/cut/manifest:1")
    image = make_image(blobs)
    with Registry.of(reference) as registry:
        registry.push(blobs, image, reference)
    payload, cuts = blobs.read(image.digest), iter((40, 80, None))
    whole = {"Content-Type": image.media_type}
    answers: dict[str, Answers] = {
        "/v2/": Reply(200),
        "/v2/a/manifests/": lambda _: Reply(200, payload, whole, cut_after=next(cuts)),
    }
    with scripted(answers) as server, Registry(server.host, retry=QUICKLY) as registry:
        assert registry.resolve(Reference.parse(f"{server.host}/a")).digest == image.digest


def test_a_registry_that_drips_bytes_is_given_up_and_one_that_is_only_slow_is_not() -> None:
    def drip(listening: socket.socket, size: int, pause_s: float) -> None:
        with contextlib.suppress(OSError):  # the reader has gone
            link, _ = listening.accept()
            with link:
                link.recv(4096)
                link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n")
                for _ in range(4000 // size):
                    link.sendall(b"x" * size)
                    time.sleep(pause_s)  # the fault itself

    def get(size: int, pause_s: float) -> bytes:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            threading.Thread(target=drip, args=(listening, size, pause_s), daemon=True).start()
            url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
            with contextlib.closing(Wire(timeout_s=0.4)) as wire, wire.ask("GET", url, {}, None) as answer:
                return answer.read_small()

    with pytest.raises(RegistryError, match=r"sends next to nothing: \d+ bytes in") as caught:
        get(1, 0.05)
    assert not isinstance(caught.value, Broken)  # or it would be asked again, and drip again
    assert get(400, 0.1) == b"x" * 4000
