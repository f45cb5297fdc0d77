"""Send a blob: nothing where the registry has it, and only the rest where the connection broke."""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import urlencode, urljoin

from ferryman.core.errors import RegistryError
from ferryman.oci._session import Session
from ferryman.oci._wire import Answer, Body, Broken
from ferryman.oci.blobs import Blobs
from ferryman.oci.descriptor import Descriptor

_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")
_EMPTY = {"Content-Length": "0"}
_LOST = (404, 416, 429)
_OCTETS = {"Content-Type": "application/octet-stream"}
Count = Callable[[int], None]


@dataclass
class Part:
    """Be the bytes of a file from a place on; `count` hears of what is sent."""

    stream: BinaryIO
    size: int
    left: int
    going: Callable[[], None]
    count: Count

    def read(self, size: int = -1, /) -> bytes:
        """Give the next bytes, none after `size` of them."""
        self.going()
        chunk = self.stream.read(self.left if size < 0 else min(size, self.left))
        self.left -= len(chunk)
        self.count(len(chunk))
        return chunk


class Upload:
    """Send one blob to one repository."""

    def __init__(self, session: Session, repository: str, descriptor: Descriptor, blobs: Blobs, count: Count) -> None:
        self._session = session
        self._folder = f"/v2/{repository}/blobs"
        self._where = f"push to {repository}"
        self._blob = descriptor
        self._blobs = blobs
        self._count = count
        self._told = 0

    def run(self, mounts: tuple[str, ...] = ()) -> bool:
        """Send it unless it is there; `mounts` are repositories that may have it. Gives whether bytes were sent."""
        if self.is_there():
            self._tell(self._blob.size)
            return False
        location = self._begin(mounts)
        if location is None:
            self._tell(self._blob.size)
            return False
        with self._blobs.path(self._blob.digest).open("rb") as stream:
            self._send(location, stream)
        return True

    def is_there(self) -> bool:
        """Ask whether the repository has the blob."""
        with self._session.ask("HEAD", f"{self._folder}/{self._blob.digest}") as answer:
            if answer.status == 404:
                return False
            if answer.status != 200:
                raise self._session.refuse(answer, self._where)
            length = answer.header("Content-Length")
            return not length.isdigit() or int(length) == self._blob.size

    def _begin(self, mounts: tuple[str, ...] = ()) -> str | None:
        """Open an upload and give its URL; None where the registry took the blob from another of its repositories."""
        for source in mounts:
            query = urlencode({"mount": self._blob.digest, "from": source})
            with self._session.ask("POST", f"{self._folder}/uploads/?{query}", headers=_EMPTY) as answer:
                answer.read_small()
            if answer.status == 201:
                return None
            if answer.status == 202:  # it isn't there, and an upload was opened instead
                self._forget(self._location(answer, ""))
        answer = self._session.ask("POST", f"{self._folder}/uploads/", headers=_EMPTY)
        if answer.status != 202:
            raise self._session.refuse(answer, self._where)
        with answer:
            answer.read_small()
        return self._location(answer, "")

    def _forget(self, location: str) -> None:
        """Have the registry free what an upload took, as far as it likes to."""
        with suppress(RegistryError), self._session.ask("DELETE", location, is_retried=False) as answer:
            answer.read_small()

    def _send(self, location: str, stream: BinaryIO) -> None:
        """Send the whole in one request, as every registry takes it; after a break, what has not arrived."""
        at, attempt = 0, 0
        while True:
            try:
                location = self._send_from(location, stream, at)
                return
            except Broken as error:
                attempt += 1
                if attempt >= self._session.retry.attempts:
                    raise RegistryError(f"{self._session.host}: {error}", hint="run it again") from None
                self._session.pause(attempt - 1)
            arrived, location = self._arrived(location)
            attempt, at = 0 if arrived > at else attempt, arrived

    def _send_from(self, location: str, stream: BinaryIO, at: int) -> str:
        if at:
            location = self._patch(location, stream, at)
            at = self._blob.size
        finish = f"{location}{'&' if '?' in location else '?'}{urlencode({'digest': self._blob.digest})}"
        answer = self._session.ask(
            "PUT", finish, headers=_OCTETS, make_body=lambda: self._part(stream, at), is_retried=False
        )
        self._check(answer, (201, 204))
        return location

    def _patch(self, location: str, stream: BinaryIO, at: int) -> str:
        if at >= self._blob.size:
            return location
        headers = {**_OCTETS, "Content-Range": f"{at}-{self._blob.size - 1}"}
        answer = self._session.ask(
            "PATCH", location, headers=headers, make_body=lambda: self._part(stream, at), is_retried=False
        )
        self._check(answer, (202, 201, 204))
        return self._location(answer, location)

    def _check(self, answer: Answer, wanted: tuple[int, ...]) -> None:
        """Let a wanted answer pass; raises Broken for one after which it may be tried again."""
        if answer.status not in (*wanted, *_LOST) and answer.status < 500:
            error = self._session.refuse(answer, f"upload of {self._blob.digest}")
            self._blobs.check_descriptor(self._blob)  # a registry that refuses altered bytes is right: then say so
            raise error
        with answer:
            answer.read_small()
        if answer.status not in wanted:
            raise Broken(f"the upload of {self._blob.digest} was answered {answer.status}")

    def _arrived(self, location: str) -> tuple[int, str]:
        """Ask how much arrived and where to go on; begins anew where the registry has forgotten the upload."""
        with self._session.ask("GET", location) as answer:
            found = _RANGE.fullmatch(answer.header("Range"))
            answer.read_small()
        if answer.status == 204 and found and 0 < int(found[1]) < self._blob.size:
            return int(found[1]) + 1, self._location(answer, location)
        self._forget(location)
        location = self._begin() or ""
        return 0, location

    def _location(self, answer: Answer, before: str) -> str:
        location = answer.header("Location") or before
        if not location:
            raise RegistryError(f"{self._session.host} doesn't say where to send the blob", hint="ask who runs it")
        return urljoin(answer.url, location)

    def _part(self, stream: BinaryIO, at: int) -> Body:
        stream.seek(at)
        self._tell(at)
        size = self._blob.size - at
        return Part(stream, size, size, self._session.check_going, self._add)

    def _tell(self, bytes_done: int) -> None:
        """Tell how many bytes are there in all: fewer than before, where some were lost."""
        self._count(bytes_done - self._told)
        self._told = bytes_done

    def _add(self, sent: int) -> None:
        self._told += sent
        self._count(sent)
