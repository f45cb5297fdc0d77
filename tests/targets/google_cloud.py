"""A place that answers as Google Cloud's APIs do: their own discovery documents say what is asked and answered.

Routes, fields, enums and what is required come from the documents in google-api-python-client; rules that they tell in
words only (names, sums of traffic, sizes) are in google_run.py and google_vertex.py.
"""

import json
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import googleapiclient
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

Json = dict[str, Any]
APIS = ("run.v2", "aiplatform.v1", "logging.v2")
PROJECT, REGION = "street-project", "us-central1"
PARENT = f"projects/{PROJECT}/locations/{REGION}"
TOKEN = "token-of-the-test"
_POLLS = 1  # an operation is asked for so often before it is done


class Refused(Exception):
    """Answer with an error, in Google's form."""

    def __init__(self, code: int, status: str, message: str, details: list[Json] | None = None) -> None:
        super().__init__(message)
        self.answer = {"error": {"code": code, "message": message, "status": status, "details": details or []}}
        self.code = code


class Failed(Exception):
    """Let an operation fail."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message}


def invalid(message: str) -> Refused:
    return Refused(400, "INVALID_ARGUMENT", message)


class Document:
    """Be one API as its discovery document has it."""

    def __init__(self, name: str) -> None:
        folder = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
        self._document = json.loads((folder / f"{name}.json").read_text())
        self.methods = list(self._methods(self._document))

    def _methods(self, node: Json) -> Iterator[Json]:
        for one in node.get("methods", {}).values():
            flat = one.get("flatPath", one["path"])
            pattern = re.sub(r"\\{[^}]*\\}", r"[^/:?]+", re.escape(flat).replace("\\{+", "\\{"))
            yield {**one, "pattern": re.compile("/" + pattern)}
        for inner in node.get("resources", {}).values():
            yield from self._methods(inner)

    def check(self, value: Any, ref: str, *, at: str = "", whole: bool = True) -> None:
        """Refuse what isn't of this schema: unknown names, wrong types, and with `whole` what is required and lacks."""
        properties = self._document["schemas"][ref].get("properties", {})
        for name, schema in properties.items():
            required = schema.get("description", "").startswith("Required.") and not schema.get("readOnly")
            if whole and required and name not in value:
                raise invalid(f"Required field is not set: {at}{name}")
        for name, inner in value.items():
            if name not in properties:
                raise invalid(
                    f"Invalid JSON payload received. Unknown name \"{name}\" at '{at.rstrip('.')}': Cannot find field."
                )
            if inner is not None:
                self._check_one(inner, properties[name], f"{at}{name}", whole)

    def _check_one(self, value: Any, schema: Json, at: str, whole: bool) -> None:
        if "$ref" in schema:
            if not isinstance(value, dict):
                raise invalid(f"Invalid value at '{at}': not an object")
            self.check(value, schema["$ref"], at=f"{at}.", whole=whole)
            return
        kind = schema.get("type", "any")
        kinds: dict[str, Any] = {
            "string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict,
            "any": object,
        }  # fmt: skip
        if not isinstance(value, kinds[kind]) or (kind == "integer" and isinstance(value, bool)):
            raise invalid(f"Invalid value at '{at}' (TYPE_{kind.upper()}), {value!r}")
        if "enum" in schema and value not in schema["enum"]:
            raise invalid(f"Invalid value at '{at}' (enum), \"{value}\"")
        inner = schema.get("items") if kind == "array" else schema.get("additionalProperties")
        for key, one in enumerate(value) if kind == "array" else value.items() if kind == "object" else ():
            if inner:
                self._check_one(one, inner, f"{at}[{key}]", whole)


@cache
def document(name: str) -> Document:
    """Give an API's document; reading the three of them takes a second."""
    return Document(name)


@cache
def private_key() -> str:
    """Give the key of a service account."""
    key = rsa.generate_private_key(65537, 2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*form).decode()


class Cloud:
    """Hold what was made, and what is to go wrong."""

    def __init__(self) -> None:
        self.url = ""
        self.services: dict[str, Json] = {}
        self.revisions: dict[str, Json] = {}
        self.endpoints: dict[str, Json] = {}
        self.models: dict[str, list[Json]] = {}  # versions, oldest first
        self.entries: list[Json] = []
        self.broken: dict[str, str] = {}  # images that don't come up, with what is said of them
        self.unready: set[str] = set()  # revisions that answer 503
        self.has_empty_pages = False  # the first page of a log is empty
        self.refusing: Refused | None = None  # what every call is answered with
        self.calls: list[tuple[str, Json]] = []
        self.operations: dict[str, Json] = {}
        self.lock = threading.RLock()
        self._number = 1000
        self._documents = [document(name) for name in APIS]
        self.handlers: dict[str, Callable[[Any], Json]] = {}

    def number(self) -> str:
        self._number += 1
        return str(self._number)

    def made(self, method: str) -> list[Json]:
        """Give the bodies that were sent to a method."""
        return [body for name, body in self.calls if name.endswith(method)]

    def begin(self, work: Callable[[], Json], *, under: str = PARENT) -> Json:
        """Begin a long operation; the work is done when it has been asked for often enough."""
        name = f"{under}/operations/{self.number()}"
        self.operations[name] = {"work": work, "left": _POLLS, "answer": {"name": name, "done": False}}
        return {"name": name}

    def look(self, name: str) -> Json:
        if name not in self.operations:
            raise Refused(404, "NOT_FOUND", f"Operation {name} not found")
        one = self.operations[name]
        one["left"] -= 1
        if one["left"] == 0:
            try:
                one["answer"] = {"name": name, "done": True, "response": one["work"]()}
            except Failed as error:
                one["answer"] = {"name": name, "done": True, "error": error.error}
        answer: Json = one["answer"]
        return answer

    def finish(self) -> None:
        """Do what is begun, though nobody asks for it any more."""
        for name, one in self.operations.items():
            while one["left"] > 0:
                self.look(name)

    def answer(self, verb: str, path: str, query: dict[str, str], body: Json | None) -> Json:
        if self.refusing:
            raise self.refusing
        for document in self._documents:
            for method in document.methods:
                if method["httpMethod"] == verb and method["pattern"].fullmatch(path):
                    return self._run(document, method, path, query, body)
        raise Refused(404, "NOT_FOUND", f"no method for {verb} {path}")

    def _run(self, document: Document, method: Json, path: str, query: dict[str, str], body: Json | None) -> Json:
        if unknown := set(query) - set(method["parameters"]) - {"alt"}:
            raise invalid(f"Unknown name {sorted(unknown)}: Cannot bind query parameter")
        if "request" in method:
            document.check(body, method["request"]["$ref"], whole=verb_is_whole(method))
        self.calls.append((method["id"], body or {}))
        name = re.sub(r"^/v\d+/", "", path).partition(":")[0]
        if method["id"].endswith("operations.get"):
            answer = self.look(name)
        else:
            answer = self.handlers[method["id"]](Call(name=name, query=query, body=body or {}))
        shown: Json = plain(answer)
        document.check(shown, method["response"]["$ref"], whole=False)  # it must be Google's own form
        return shown


def verb_is_whole(method: Json) -> bool:
    return bool(method["httpMethod"] == "POST")


def plain(value: Any) -> Any:
    """Leave out what is empty, as protocol buffers' JSON does."""
    if isinstance(value, dict):
        found = {key: plain(inner) for key, inner in value.items()}
        return {key: inner for key, inner in found.items() if inner not in (None, False, 0, "", [])}
    return [plain(one) for one in value] if isinstance(value, list) else value


class Call:
    """Be one call: the name in its path, its query and its body."""

    def __init__(self, *, name: str, query: dict[str, str], body: Json) -> None:
        self.name = name
        self.query = query
        self.body: Json = json.loads(json.dumps(body))

    def parent(self, collection: str) -> str:
        return self.name.removesuffix(f"/{collection}")


def _handler(cloud: Cloud) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _serve(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            split = urllib.parse.urlsplit(self.path)
            if split.path == "/token":
                return self._say(200, {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})
            if split.path.startswith("/tagged/"):
                return self._say(503 if split.path.split("/")[2] in cloud.unready else 200, {})
            with cloud.lock:
                try:
                    if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                        raise Refused(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
                    query = dict(urllib.parse.parse_qsl(split.query))
                    path = urllib.parse.unquote(split.path)
                    self._say(200, cloud.answer(self.command, path, query, json.loads(raw) if raw else None))
                except Refused as error:
                    self._say(error.code, error.answer)

        do_GET = do_POST = do_PATCH = do_DELETE = _serve

        def _say(self, code: int, answer: Json) -> None:
            body = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json; charset=UTF-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def running_cloud(folder: Path) -> Iterator[tuple[Cloud, Path]]:
    """Give a cloud that listens, and a service account's key that its token address takes."""
    cloud = Cloud()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(cloud))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    cloud.url = f"http://127.0.0.1:{server.server_address[1]}"
    cloud.handlers["logging.entries.list"] = lambda call: _entries(cloud, call)
    account = {
        "type": "service_account", "project_id": PROJECT, "private_key_id": "1", "private_key": private_key(),
        "client_email": f"test@{PROJECT}.iam.gserviceaccount.com", "client_id": "1", "token_uri": f"{cloud.url}/token",
    }  # fmt: skip
    file = folder / "account.json"
    file.write_text(json.dumps(account))
    try:
        yield cloud, file
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _entries(cloud: Cloud, call: Call) -> Json:
    if call.body.get("resourceNames") != [f"projects/{PROJECT}"]:
        raise invalid("resourceNames")
    asked = dict(re.findall(r'resource\.(\S+?)="([^"]*)"', call.body["filter"]))
    found = [one for one in cloud.entries if all(_of(one["resource"], key) == value for key, value in asked.items())]
    newest = found[::-1] if call.body.get("orderBy") == "timestamp desc" else found
    begun = int(call.body.get("pageToken") or 0)
    if not 1 <= call.body["pageSize"] <= 1000:
        raise invalid("page_size must be from 1 to 1000")
    if cloud.has_empty_pages and not call.body.get("pageToken"):
        return {"nextPageToken": "0"}  # Google's own words: no entries with a token means that it is still looking
    end = begun + call.body["pageSize"]
    return {"entries": newest[begun:end], **({"nextPageToken": str(end)} if end < len(newest) else {})}


def _of(resource: Json, key: str) -> Any:
    return resource.get("labels", {}).get(key.removeprefix("labels.")) if "." in key else resource.get(key)
