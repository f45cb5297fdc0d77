import pytest

from ferryman.core.errors import ConfigError
from ferryman.server.data.http.cors import Origins
from tests.server.http.serving import get, post, serving

_PAGE = "https://page.example"
_PREFLIGHT = (
    b"OPTIONS /echo HTTP/1.1\r\nHost: a\r\nOrigin: https://page.example\r\nConnection: close\r\n"
    b"Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n\r\n"
)


def test_an_allowed_page_may_ask_and_read() -> None:
    with serving(origins=Origins([_PAGE])) as server:
        said = server.say(_PREFLIGHT)
        assert said.startswith(b"HTTP/1.1 204 ") and b"access-control-allow-origin: https://page.example\r\n" in said
        assert b"access-control-allow-headers: content-type\r\n" in said and b"\r\ncontent-length" not in said
        assert server.application.admitted == 0 and said.count(b"allow-origin") == 1
        said = server.say(post(b"a", "/echo", f"Origin: {_PAGE}", "Connection: close"))
        assert said.startswith(b"HTTP/1.1 200 ") and b"access-control-allow-origin: https://page.example\r\n" in said
        assert b"vary: origin\r\n" in said and b"allow-credentials" not in said
        refused = server.say(post(b"a", "/deny", f"Origin: {_PAGE}", "Connection: close"))
        assert refused.startswith(b"HTTP/1.1 401 ") and b"access-control-allow-origin" in refused


@pytest.mark.parametrize("origin", ["https://page.example.evil", "https://page.exampl", "http://page.example", "null"])
def test_only_the_very_origin_is_allowed(origin: str) -> None:
    with serving(origins=Origins([_PAGE])) as server:
        said = server.say(post(b"a", "/echo", f"Origin: {origin}", "Connection: close"))
        assert said.startswith(b"HTTP/1.1 403 ") and b"access-control-allow" not in said
        said = server.say(get("/echo", f"Origin: {origin}", "Connection: close"))
        assert said.startswith(b"HTTP/1.1 200 ") and b"access-control-allow" not in said


def test_unless_told_otherwise_no_other_page_may_change_anything() -> None:
    with serving() as server:
        assert b"access-control-allow" not in server.say(_PREFLIGHT)
        said = server.say(post(b"a", "/echo", f"Origin: {_PAGE}", "Connection: close"))
        assert said.startswith(b"HTTP/1.1 403 ") and server.application.answered <= 1
        own = server.say(post(b"a", "/echo", "Origin: http://a", "Connection: close"))
        assert own.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("origin", ["*", "page.example", "https://page.example/", "ftp://page.example", ""])
def test_what_is_no_origin_is_refused_when_the_server_is_made(origin: str) -> None:
    with pytest.raises(ConfigError, match="not an origin"):
        Origins([origin])
