"""The client asks a real server, and says clearly what went wrong where it can't."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from ferryman.bundle.read import load_bundle
from ferryman.client.http import Client
from ferryman.core.bundle import Bundle
from ferryman.core.errors import ConfigError, FerrymanError, InputError, NotFound, NotReady, TooLarge
from ferryman.core.signature import Array
from ferryman.core.task import Item
from tests.bundle.making import bundle_affine, bundle_colour, bundle_model, bundle_table, make_zoo, plain_picture
from tests.server.running import Running, running


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    folder = tmp_path_factory.mktemp("bundles")
    item: dict[str, Array] = {name: array[:1] for name, array in zoo_inputs().items()}
    zoo = bundle_model(folder / "zoo", make_zoo(folder / "zoo-model"), {"kind": "tensor"}, [item], name="zoo")
    made = [bundle_affine(folder / "affine"), bundle_table(folder / "table"), bundle_colour(folder / "colour"), zoo]
    return {bundle.manifest.name: bundle for bundle in made}


@pytest.fixture(scope="module")
def server(bundles: dict[str, Bundle]) -> Iterator[Running]:
    with running([bundle.path for bundle in bundles.values()], max_body_bytes=100_000) as one:
        yield one


@pytest.fixture
def client(server: Running) -> Iterator[Client]:
    with Client(server.url, timeout_s=10) as connected:
        yield connected


def zoo_inputs() -> dict[str, Array]:
    numbers = {
        "UINT8": np.uint8, "INT32": np.int32, "INT64": np.int64, "UINT64": np.uint64,
        "FP16": np.float16, "FP32": np.float32, "FP64": np.float64,
    }  # fmt: skip
    return {
        "in_BOOL": np.array([[True, False], [False, False]]),
        "in_BYTES": np.array([["", "ü"], ["a\n", "b"]], object),
        **{f"in_{name}": np.array([[0, 1], [2, 3]], dtype) for name, dtype in numbers.items()},
    }


def test_it_reads_what_the_server_and_a_model_say_of_themselves(client: Client) -> None:
    assert client.metadata()["name"] == "ferryman"
    assert client.metadata("affine")["inputs"] == [{"name": "values", "datatype": "FP32", "shape": [-1, 3]}]


def test_it_lists_the_models_in_the_order_they_were_given(client: Client) -> None:
    assert client.models() == ["affine", "table", "colour", "zoo"]


def test_it_tells_who_is_ready(client: Client) -> None:
    assert client.is_ready()
    assert client.is_ready("affine")
    assert not client.is_ready("nobody")


def test_golden_samples_get_their_own_answers(client: Client, bundles: dict[str, Bundle]) -> None:
    for name in ("table", "colour"):
        for sample in load_bundle(bundles[name].path).golden:
            assert client.infer_item(name, sample.item) == sample.answer


def test_a_pictures_file_is_as_good_as_its_bytes(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(plain_picture(5, 200, 90))
    assert client.infer_item("colour", file) == client.infer_item("colour", file.read_bytes())


def test_a_cell_that_is_not_known_is_sent_as_null(client: Client) -> None:
    row: Item = {"width": np.float32(1), "height": float("nan"), "weight": np.int64(2)}
    with pytest.raises(InputError, match=r"column 'height' is empty \(null or NaN\)"):
        client.infer_item("table", row)


def test_every_dtype_survives_the_way_there_and_back(client: Client) -> None:
    inputs = zoo_inputs()
    outputs = client.infer_tensors("zoo", inputs)
    for name, sent in inputs.items():
        got = outputs[name.replace("in_", "out_")]
        assert got.dtype == sent.dtype
        np.testing.assert_array_equal(got, sent)


def test_it_gives_only_the_outputs_asked_for(client: Client) -> None:
    assert list(client.infer_tensors("zoo", zoo_inputs(), ["out_FP32"])) == ["out_FP32"]


@pytest.mark.parametrize(
    ("ask", "kind", "words"),
    [
        (lambda client: client.metadata("nobody"), NotFound, "says 404: no model is called 'nobody'"),
        (lambda client: client.infer_item("nobody", b"x"), NotFound, "nobody"),
        (lambda client: client.infer_item("colour", b"no picture"), InputError, "says 400"),
        (lambda client: client.infer_item("affine", b"no picture"), InputError, "doesn't take pictures"),
        (lambda client: client.infer_item("table", {"width": 1}), InputError, "lacks column 'height'"),
        (lambda client: client.infer_item("table", {"width": object()}), InputError, "can't be sent as JSON"),
        (lambda client: client.infer_item("table", {"width": float("inf")}), InputError, "can't be sent as JSON"),
        (lambda client: client.infer_item("colour", np.zeros((4, 4, 3), np.uint8)), InputError, "takes no arrays"),
        (lambda client: client.infer_item("colour", Path("/no/such/file.jpg")), InputError, "can't be read"),
        (lambda client: client.infer_item("colour", bytes(200_000)), TooLarge, "100000 bytes"),
        (lambda client: client.infer_tensors("affine", {"values": np.zeros(3)}), InputError, "FP32"),
        (lambda client: client.infer_tensors("affine", {"values": np.zeros(3, complex)}), InputError, "complex128"),
        (lambda client: client.infer_item("../../v2", b"x"), NotFound, "404"),
    ],
)
def test_what_goes_wrong_comes_back_as_the_error_that_it_is(
    client: Client, ask: Callable[[Client], object], kind: type[FerrymanError], words: str
) -> None:
    with pytest.raises(kind) as caught:
        ask(client)
    assert words in f"{caught.value} {caught.value.hint}"
    assert client.is_ready(), "the client goes on"


def test_nobody_listening_is_said_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with Client(f"127.0.0.1:{port}") as client:
        assert not client.is_ready()
        with pytest.raises(NotReady, match=f"nobody listens at http://127.0.0.1:{port}"):
            client.metadata()


@contextmanager
def stranger(answer: bytes | None) -> Iterator[str]:
    """Listen, and send every caller these bytes (or nothing, for ever) and hang up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                link, _ = listener.accept()
                with link:
                    if answer is None:
                        done.wait(10)
                    elif not done.is_set():
                        link.recv(65536)
                        link.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            done.set()
            socket.create_connection(listener.getsockname()).close()
            thread.join(10)


def test_a_server_that_never_answers_is_given_up_after_the_timeout() -> None:
    with stranger(None) as url, Client(url, timeout_s=0.2) as client, pytest.raises(NotReady, match=r"within 0\.2 s"):
        client.metadata()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "closed the connection"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "can't be asked"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "no JSON object"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "no JSON object"),
        (b"HTTP/1.1 502 Bad\r\nContent-Length: 5\r\n\r\nproxy", "says 502: proxy"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "can't be asked"),
    ],
)
def test_what_is_not_such_a_server_is_said_so(answer: bytes, words: str) -> None:
    with stranger(answer) as url, Client(url, timeout_s=5) as client, pytest.raises(FerrymanError, match=words):
        client.metadata()


@pytest.mark.parametrize("url", ["ftp://host", "http://", "http://host:many", ""])
def test_what_is_no_address_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError, match="is not a server's address"):
        Client(url)


@pytest.mark.parametrize("ending", ["/v2", "/v2/", "/"])
def test_an_address_may_end_in_the_protocols_own_path(server: Running, ending: str) -> None:
    with Client(server.url + ending) as client:
        assert client.models() == ["affine", "table", "colour", "zoo"]


@pytest.mark.parametrize("url", ["http://host:1/v2/models/affine", "http://host:1/v2/models/a/infer", "http://h/?a=1"])
def test_an_address_inside_of_a_server_is_refused_with_the_servers_own(url: str) -> None:
    with pytest.raises(ConfigError, match="is an address inside of a server") as caught:
        Client(url)
    assert "give the server's own, http://h" in caught.value.hint


def test_a_connection_that_the_server_closed_meanwhile_is_opened_again(bundles: dict[str, Bundle]) -> None:
    with running([bundles["affine"].path]) as first:
        port = int(first.url.rsplit(":", 1)[1])
        with Client(first.url, timeout_s=10) as client:
            assert client.is_ready()
            assert first.stop() == 0
            with running([bundles["affine"].path], port=port):
                assert client.metadata()["name"] == "ferryman"
