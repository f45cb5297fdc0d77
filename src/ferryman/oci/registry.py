"""Push to and pull from registries: the OCI distribution specification, v1.1, and the registries that are older."""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urljoin, urlsplit

from ferryman.core.errors import ImageError, RegistryError
from ferryman.core.progress import Progress, silent
from ferryman.oci._download import clean_up, download
from ferryman.oci._login import Bytes
from ferryman.oci._session import Retry as Retry  # for callers
from ferryman.oci._session import Session
from ferryman.oci._upload import Upload
from ferryman.oci._wire import Answer, Wire
from ferryman.oci.auth import Credentials, find_credentials
from ferryman.oci.blobs import Blobs, decode_json, encode_json
from ferryman.oci.descriptor import (
    INDEX,
    INDEXES,
    MANIFEST_LIMIT_BYTES,
    MANIFESTS,
    Descriptor,
    Platform,
)
from ferryman.oci.image import check_manifest, children, choose_of, read_manifest
from ferryman.oci.reference import Reference

_ACCEPT = ", ".join((*INDEXES, *MANIFESTS))
_THREADS = 4
_DEPTH_LIMIT = 3
_PARTS_LIMIT = 10_000
_PAGES_LIMIT = 1_000
_DAMAGED = "what this registry holds is damaged, or not meant for us"
_DEFAULT_RETRY = Retry()
Job = Callable[[Callable[[int], None]], None]


@dataclass(frozen=True, slots=True)
class Pushed:
    """Say what a push did: bytes that were sent, and bytes that the registry had already."""

    descriptor: Descriptor
    sent_bytes: int
    kept_bytes: int


class Registry:
    """Hold one registry's host; hosts on this machine may speak plain http, others only where `insecure`.

    `auth` are credentials to use instead of those in docker's and podman's files; `ca` is a PEM file with authorities
    to trust besides the system's.
    """

    def __init__(
        self,
        host: str,
        *,
        insecure: bool = False,
        auth: Credentials | None = None,
        ca: Path | None = None,
        retry: Retry = _DEFAULT_RETRY,
    ) -> None:
        self.host = host
        self._auth = auth
        self._repository = ""
        self._wire = Wire(ca=ca, insecure=insecure)
        api_host = Reference(host, "any", "any").api_host
        self._session = Session(api_host, self._wire, self._find, insecure=insecure, retry=retry)

    @classmethod
    def of(cls, reference: Reference, *, insecure: bool = False, ca: Path | None = None) -> Self:
        """Hold the registry that a reference names."""
        return cls(reference.host, insecure=insecure, ca=ca)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._wire.close()

    def resolve(self, reference: Reference) -> Descriptor:
        """Ask which manifest a reference names now; raises RegistryError where there is none."""
        return self._get_manifest(reference)[0]

    def read(self, reference: Reference) -> tuple[dict[str, Any], list[Descriptor]]:  # JSON
        """Read a manifest and what it stands on (its config, then its layers), and bring nothing."""
        descriptor, payload = self._get_manifest(reference)
        raw: dict[str, Any] = decode_json(payload, origin=str(reference))
        return raw, children(raw, origin=descriptor.digest)

    def pull_blob(self, reference: Reference, part: Descriptor, blobs: Blobs) -> None:
        """Bring one blob of a manifest, as `pull` does with all of them."""
        self._run(f"pull {reference}", [self._download_job(reference, part, blobs)], part.size, silent)

    def pull(
        self,
        reference: Reference,
        blobs: Blobs,
        *,
        platform: Platform | None = None,
        progress: Progress = silent,
    ) -> Descriptor:
        """Bring a manifest and all it stands on into `blobs`, checked; gives its descriptor.

        Of an index comes the image for `platform` alone, or all of them where none is said. Blobs that are there are
        not asked for; what a break or a killed process left unfinished goes on. Raises ImageError, RegistryError.
        """
        descriptor, payload = self._get_manifest(reference)
        if platform is not None and descriptor.media_type in INDEXES:
            found = children(decode_json(payload, origin=str(reference)), origin=str(reference))
            chosen = choose_of(found, platform, origin=str(reference))
            descriptor, payload = self._get_manifest(reference.pinned(chosen.digest), chosen)
        parts: dict[str, Descriptor] = {}
        manifests = [payload, *self._collect(reference, descriptor, payload, parts, 0)]
        self._run(f"pull {reference}", [self._download_job(reference, part, blobs) for part in parts.values()],
                  sum(part.size for part in parts.values()), progress)  # fmt: skip
        clean_up(blobs)
        for one in reversed(manifests):
            blobs.add_bytes(one)  # last of all: a manifest that is there has all that it names
        return descriptor

    def push(
        self,
        blobs: Blobs,
        descriptor: Descriptor,
        reference: Reference,
        *,
        mounts: Sequence[str] = (),
        progress: Progress = silent,
    ) -> Pushed:
        """Send a manifest and all it stands on; blobs that the registry has are not sent again.

        `mounts` are other repositories of the same registry that may hold some of the blobs. A manifest about another
        (`subject`) is listed by that one's referrers, where the registry is too old to do it by itself.
        """
        if reference.digest not in ("", descriptor.digest):
            raise RegistryError(f"{reference} is another's name: this is {descriptor.digest}", hint="name it by a tag")
        self._repository = reference.repository
        manifests = list(_walk(blobs, descriptor, 0))
        parts = {part.digest: part for one in manifests for part in _parts_of(blobs, one)}
        sent: list[int] = []
        jobs = [self._upload_job(reference, part, blobs, tuple(mounts), sent) for part in parts.values()]
        total = sum(part.size for part in parts.values())
        self._run(f"push {reference}", jobs, total, progress)
        for one in manifests[:-1]:
            self._put_manifest(reference.pinned(one.digest), one, blobs)
        self._put_manifest(reference, manifests[-1], blobs)
        return Pushed(descriptor, sum(sent), total - sum(sent))

    def missing(self, blobs: Blobs, descriptor: Descriptor, reference: Reference) -> list[Descriptor]:
        """List the blobs that a push would have to send; sends nothing."""
        parts = {part.digest: part for one in _walk(blobs, descriptor, 0) for part in _parts_of(blobs, one)}
        return [
            part
            for part in parts.values()
            if not Upload(self._session, reference.repository, part, blobs, lambda _: None).is_there()
        ]

    def referrers(self, reference: Reference, artifact_type: str = "") -> list[Descriptor]:
        """List what says something about the manifest with `reference.digest`: signatures, bills of materials ..."""
        digest = reference.digest or self.resolve(reference).digest
        path = f"/v2/{reference.repository}/referrers/{digest}"
        answer = self._session.ask("GET", path, headers={"Accept": INDEX})
        if answer.status == 200:
            raw = [one for page in self._pages(answer) for one in page.get("manifests") or ()]
        elif answer.status in (404, 400, 405):
            with answer:
                answer.read_small()
            raw = self._fallback(reference, digest)
        else:
            raise self._session.refuse(answer, f"referrers of {digest}")
        found = [Descriptor.from_json(one, origin=path) for one in raw]
        return [one for one in found if not artifact_type or one.artifact_type == artifact_type]

    def tags(self, repository: str) -> list[str]:
        """List a repository's tags; raises RegistryError where there is no such repository."""
        self._repository = repository
        answer = self._session.ask("GET", f"/v2/{repository}/tags/list")
        if answer.status != 200:
            raise self._session.refuse(answer, repository)
        return sorted({str(tag) for page in self._pages(answer) for tag in page.get("tags") or ()})

    def _find(self) -> Credentials | None:
        return self._auth or find_credentials(self.host, self._repository)

    def _get_manifest(self, reference: Reference, expected: Descriptor | None = None) -> tuple[Descriptor, bytes]:
        self._repository = reference.repository
        path = f"/v2/{reference.repository}/manifests/{quote(reference.target, safe=':')}"
        answer, payload = self._session.get(path, headers={"Accept": _ACCEPT}, limit_bytes=MANIFEST_LIMIT_BYTES)
        if answer.status != 200:
            raise self._session.refuse(answer, str(reference))
        if len(payload) > MANIFEST_LIMIT_BYTES:
            raise ImageError(f"{reference}: the manifest has more than {MANIFEST_LIMIT_BYTES} bytes", hint=_DAMAGED)
        digest = Blobs.digest_of(payload)
        wanted = reference.digest or answer.header("Docker-Content-Digest") or digest
        if digest != wanted or (expected is not None and len(payload) != expected.size):
            raise ImageError(f"{reference}: {self.host} gives another manifest, {digest}", hint=_DAMAGED)
        media_type = answer.header("Content-Type").partition(";")[0].strip()
        raw = check_manifest(decode_json(payload, origin=str(reference)), media_type, origin=str(reference))
        return Descriptor(media_type, digest, len(payload), artifact_type=str(raw.get("artifactType") or "")), payload

    def _collect(
        self, reference: Reference, descriptor: Descriptor, payload: bytes, parts: dict[str, Descriptor], depth: int
    ) -> Iterator[bytes]:
        """Gather the blobs of a manifest into `parts`, and give the manifests below an index."""
        if depth > _DEPTH_LIMIT:
            raise ImageError(f"{reference}: indexes in indexes, {depth} deep", hint=_DAMAGED)
        for child in children(decode_json(payload, origin=descriptor.digest), origin=descriptor.digest):
            if child.media_type in (*INDEXES, *MANIFESTS) and descriptor.media_type in INDEXES:
                named, inner = self._get_manifest(reference.pinned(child.digest), child)
                yield inner
                yield from self._collect(reference, named, inner, parts, depth + 1)
            elif parts.setdefault(child.digest, child).size != child.size:
                raise ImageError(f"{reference}: {child.digest} has two sizes", hint=_DAMAGED)
            if len(parts) > _PARTS_LIMIT:
                raise ImageError(f"{reference} has more than {_PARTS_LIMIT} parts", hint=_DAMAGED)

    def _put_manifest(self, reference: Reference, descriptor: Descriptor, blobs: Blobs) -> None:
        payload = blobs.read(descriptor.digest)
        path = f"/v2/{reference.repository}/manifests/{quote(reference.tag or reference.target, safe=':')}"
        headers = {"Content-Type": descriptor.media_type}
        answer = self._session.ask("PUT", path, headers=headers, make_body=lambda: Bytes.of(payload))
        if answer.status not in (200, 201, 202):
            raise self._session.refuse(answer, str(reference))
        with answer:
            answer.read_small()
        stored = answer.header("Docker-Content-Digest")
        if stored and stored != descriptor.digest:
            raise RegistryError(f"{reference}: {self.host} changed the manifest to {stored}", hint="ask who runs it")
        subject = json.loads(payload).get("subject")
        if subject and not answer.header("OCI-Subject"):
            self._list_referrer(reference, Descriptor.from_json(subject, origin=str(reference)), descriptor, blobs)

    def _list_referrer(self, reference: Reference, subject: Descriptor, one: Descriptor, blobs: Blobs) -> None:
        """Add to the tag that older registries' clients keep (distribution-spec v1.1, "Referrers Tag Schema")."""
        raw = read_manifest(blobs, one)
        artifact_type = raw.get("artifactType") or raw["config"]["mediaType"]
        entry = {**one.to_json(), "artifactType": artifact_type, "annotations": raw.get("annotations") or {}}
        others = [held for held in self._fallback(reference, subject.digest) if held.get("digest") != one.digest]
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*others, entry]}
        payload = encode_json(document)
        path = f"/v2/{reference.repository}/manifests/{_fallback_tag(subject.digest)}"
        answer = self._session.ask("PUT", path, headers={"Content-Type": INDEX}, make_body=lambda: Bytes.of(payload))
        if answer.status not in (200, 201, 202):
            raise self._session.refuse(answer, f"referrers of {subject.digest}")
        with answer:
            answer.read_small()

    def _fallback(self, reference: Reference, digest: str) -> list[Any]:  # JSON
        path = f"/v2/{reference.repository}/manifests/{_fallback_tag(digest)}"
        answer = self._session.ask("GET", path, headers={"Accept": INDEX})
        if answer.status == 404:
            with answer:
                answer.read_small()
            return []
        if answer.status != 200:
            raise self._session.refuse(answer, f"referrers of {digest}")
        found = _read_json(answer, path).get("manifests")
        return found if isinstance(found, list) else []

    def _pages(self, answer: Answer) -> Iterator[dict[str, Any]]:
        """Read a list that may go on at another address of the same registry."""
        for _ in range(_PAGES_LIMIT):
            yield _read_json(answer, answer.url)
            link = answer.header("Link")
            if 'rel="next"' not in link.replace(" ", "").replace("rel=next", 'rel="next"'):
                return
            url = urljoin(answer.url, link.partition("<")[2].partition(">")[0])
            if urlsplit(url).netloc != urlsplit(answer.url).netloc:
                raise RegistryError(f"{self.host} goes on at another host: {url:.80}", hint="ask who runs it")
            answer = self._session.ask("GET", url)
            if answer.status != 200:
                raise self._session.refuse(answer, url)

    def _download_job(self, reference: Reference, part: Descriptor, blobs: Blobs) -> Job:
        path = f"/v2/{reference.repository}/blobs/{part.digest}"
        return lambda count: download(self._session, path, part, blobs, count)

    def _upload_job(
        self, reference: Reference, part: Descriptor, blobs: Blobs, mounts: tuple[str, ...], sent: list[int]
    ) -> Job:
        def run(count: Callable[[int], None]) -> None:
            if Upload(self._session, reference.repository, part, blobs, count).run(mounts):
                sent.append(part.size)

        return run

    def _run(self, stage: str, jobs: Sequence[Job], total: int, progress: Progress) -> None:
        """Do the jobs, some at once; the first error ends all."""
        lock, done = Lock(), 0

        def count(more: int) -> None:
            nonlocal done
            with lock:
                done += more
                progress(f"{stage} (MB)", done=round(done / 1e6), total=max(round(total / 1e6), 1))

        self._session.stopped.clear()
        with ThreadPoolExecutor(_THREADS) as pool:
            running = [pool.submit(job, count) for job in jobs]
            try:
                for future in as_completed(running):
                    future.result()
            except BaseException:
                self._session.stopped.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise


def _walk(blobs: Blobs, descriptor: Descriptor, depth: int) -> Iterator[Descriptor]:
    """Give the manifests below one, and it as the last: registries want what a manifest names before it."""
    if depth > _DEPTH_LIMIT:
        raise ImageError(f"{descriptor.digest}: indexes in indexes, {depth} deep", hint="push one of them")
    if descriptor.media_type in INDEXES:
        for child in children(read_manifest(blobs, descriptor), origin=descriptor.digest):
            yield from _walk(blobs, child, depth + 1)
    yield descriptor


def _parts_of(blobs: Blobs, descriptor: Descriptor) -> list[Descriptor]:
    raw = read_manifest(blobs, descriptor)
    return [] if descriptor.media_type in INDEXES else children(raw, origin=descriptor.digest)


def _fallback_tag(digest: str) -> str:
    return digest.replace(":", "-")


def _read_json(answer: Answer, origin: str) -> dict[str, Any]:
    with answer:
        payload = answer.read_small(MANIFEST_LIMIT_BYTES)
    raw = decode_json(payload[: MANIFEST_LIMIT_BYTES + 1], origin=origin)
    if not isinstance(raw, dict):
        raise RegistryError(f"{origin}: not a table: {raw!r:.60}", hint="ask who runs this registry")
    return raw
