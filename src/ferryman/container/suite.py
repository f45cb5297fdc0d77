"""Examine one image: every check in its order, each with a verdict."""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferryman.bundle.read import load_bundle
from ferryman.conformance.broken import Broken
from ferryman.container import answers, drain, hostile, live, load, static
from ferryman.container.container import Posture, Start
from ferryman.container.contents import Contents, read_contents
from ferryman.container.engine import Engine, EngineFailed, ImageFacts, find_engine
from ferryman.container.outcome import Fails, Finding, NotChecked, Outcome, Verdict
from ferryman.container.settings import ImageSettings, Limits, Promises, limits_of, promises_of
from ferryman.container.source import Source, image_of
from ferryman.container.visit import Visit, visiting
from ferryman.core.bundle import Bundle
from ferryman.core.errors import FerrymanError, UserError
from ferryman.core.progress import Progress, silent

_BUNDLE_VARIABLE, _BUNDLE_LABEL, _BUNDLE_AT = "FERRYMAN_BUNDLE", "ferryman.bundle", "/bundle"
_PORT = 8080


@dataclass(frozen=True, slots=True)
class Check:
    """Hold one check: its name for `--only`, what it says in a table, and how it is done."""

    id: str
    title: str
    run: Callable[[Visit], Finding]


CHECKS = (
    Check("bundle", "the bundle in it is whole", static.bundle),
    Check("size", "size keeps the budget", static.size),
    Check("labels", "labels name it", static.labels),
    Check("setuid", "no file gives more rights", static.setuid),
    Check("secrets", "no secret in it", static.secrets),
    Check("shell", "no shell in it", static.shell),
    Check("start", "starts in time", live.start),
    Check("read-only", "needs no writable file system", live.read_only),
    Check("privileges", "needs no privilege", live.privileges),
    Check("user", "runs as an ordinary user", live.user),
    Check("health", "its health check works", live.health),
    Check("golden", "golden samples are answered right", answers.golden),
    Check("conformance", "speaks the protocol V2", answers.conformance),
    Check("latency", "latency at the promised rate", load.latency),
    Check("bad-input", "bad input is refused", hostile.bad_input),
    Check("overload", "well again after too much load", load.overload),
    Check("memory", "memory keeps the limit", load.memory),
    Check("drain", "SIGTERM loses no request", drain.drain),
    Check("again", "starts the same way twice", live.again),
)


@dataclass(frozen=True, slots=True)
class Examined:
    """Hold all that was found of one image; `holds` where no promise was seen broken and something was checked."""

    image: str
    id: str
    platform: str
    engine: str
    bundle: str
    limits: Limits
    promises: Promises
    posture: Posture
    outcomes: tuple[Outcome, ...]
    seconds: float

    @property
    def holds(self) -> bool:
        """Tell whether nothing failed; an image of which nothing could be checked holds nothing."""
        verdicts = {one.verdict for one in self.outcomes}
        return "failed" not in verdicts and "passed" in verdicts


def examine_image(target: str, settings: ImageSettings, *, progress: Progress = silent) -> Examined:
    """Start an image shut and limited, do every check, and remove all that was started.

    Raises UserError where there is no engine, no such image or no such check; what the image does wrong is an outcome.
    """
    started_s = time.monotonic()
    _refuse_unknown(settings.only)
    engine = find_engine(settings.engine)
    with contextlib.suppress(EngineFailed):
        engine.reap()
    progress(f"{target}: fetching")
    with image_of(engine, target) as source, tempfile.TemporaryDirectory(prefix="ferryman-") as folder:
        contents = _contents(engine, source, settings, Path(folder), progress)
        visit = _visit(engine, source, contents, settings)
        with visiting(visit):
            outcomes = tuple(_outcomes(visit, settings.only, progress))
    name = f"{visit.bundle.manifest.name} {visit.bundle.manifest.digest}" if visit.bundle else ""
    return Examined(
        target, visit.facts.id, visit.facts.platform, f"{engine.program} {engine.version}", name, visit.limits,
        visit.promises, visit.posture, outcomes, time.monotonic() - started_s,
    )  # fmt: skip


def _refuse_unknown(only: tuple[str, ...]) -> None:
    known = [check.id for check in CHECKS]
    if unknown := [name for name in only if name not in known]:
        raise UserError(f"there is no check '{unknown[0]}'", hint=f"there are {', '.join(known)}")


def _contents(engine: Engine, source: Source, settings: ImageSettings, into: Path, progress: Progress) -> Contents:
    """Read the layers; gzip's work is done only where the size is asked for and the source doesn't say it."""
    progress(f"{source.told}: reading its layers")
    wants_size = not settings.only or "size" in settings.only
    at = source.facts.env.get(_BUNDLE_VARIABLE) or source.facts.labels.get(_BUNDLE_LABEL) or _BUNDLE_AT
    return read_contents(engine, source.facts.id, at, into, compress=wants_size and source.packed_mb is None)


def _visit(engine: Engine, source: Source, contents: Contents, settings: ImageSettings) -> Visit:
    bundle, missing, error = _bundle(contents, settings)
    promises = promises_of(settings, bundle)
    limits = limits_of(settings, promises, bundle)
    health = source.facts.health or (contents.config.get("config") or {}).get("Healthcheck") or {}
    start = Start(
        image=source.facts.id,
        port=settings.port or _port(source.facts),
        limits=limits,
        env=settings.env,
        args=settings.args,
        health=_health_words(engine, source.facts, health),
    )
    return Visit(
        engine=engine, facts=source.facts, contents=contents, bundle=bundle, bundle_missing=missing,
        bundle_error=error, promises=promises, limits=limits, settings=settings, start=start, health=health,
        packed_mb=source.packed_mb,
    )  # fmt: skip


def _bundle(contents: Contents, settings: ImageSettings) -> tuple[Bundle | None, str, str]:
    """Give the bundle that answers are compared with, why there is none, and what is wrong with the image's own."""
    inner, error = None, ""
    if contents.bundle is not None:
        try:
            inner = load_bundle(contents.bundle)
        except FerrymanError as damage:
            error = str(damage).replace(str(contents.bundle), "the image's bundle")
    if settings.bundle is None:
        return inner, "" if inner else "there is no bundle in the image", error
    given = load_bundle(settings.bundle)
    if inner is not None and inner.manifest.digest != given.manifest.digest:
        error = f"the image serves {inner.manifest.name} {inner.manifest.digest[:12]}, not {given.manifest.digest[:12]}"
    return given, "", error


def _port(facts: ImageFacts) -> int:
    """Give the port that serves by the image's own words."""
    said = facts.env.get("PORT", "")
    if said.isdigit():
        return int(said)
    return facts.ports[0] if len(facts.ports) == 1 else _PORT


def _health_words(engine: Engine, facts: ImageFacts, health: dict[str, Any]) -> tuple[str, ...]:  # JSON
    """Have docker do the image's own check soon; tell podman of the check of an OCI image, where it reads none."""
    test = health.get("Test") or []
    if not test or test[0] == "NONE":
        return ()
    if engine.program == "docker":
        return ("--health-interval", "1s")
    return () if facts.health else ("--health-cmd", " ".join(test))


def _outcomes(visit: Visit, only: tuple[str, ...], progress: Progress) -> Iterator[Outcome]:
    chosen = [check for check in CHECKS if not only or check.id in only]
    for number, check in enumerate(chosen):
        progress(check.title, done=number, total=len(chosen))
        yield _run(check, visit)


def _run(check: Check, visit: Visit) -> Outcome:
    started_s = time.perf_counter()
    verdict: Verdict = "passed"
    finding = Finding("")
    try:
        finding = check.run(visit)
        verdict = "told" if finding.is_advice else "passed"
    except Fails as reason:
        verdict, finding = "failed", Finding(str(reason), reason.figures, reason.hint)
    except NotChecked as reason:
        verdict, finding = "not checked", Finding(str(reason), reason.figures, reason.hint)
    except EngineFailed:
        raise  # no fault of the image
    except (FerrymanError, Broken) as error:
        verdict, finding = "failed", Finding(str(error), {}, getattr(error, "hint", ""))
    seconds = time.perf_counter() - started_s
    return Outcome(check.id, check.title, verdict, finding.message, seconds, finding.hint, finding.figures)
