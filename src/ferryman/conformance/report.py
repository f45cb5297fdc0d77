"""Results as JSON and as JUnit's XML."""

from collections import Counter
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from ferryman.conformance.check import Result
from ferryman.conformance.target import Target


def breaks(results: Sequence[Result]) -> list[Result]:
    """Give the failures that break the protocol."""
    return [result for result in results if result.verdict == "failed" and result.is_required]


def as_json(target: Target, results: Sequence[Result]) -> dict[str, Any]:  # JSON
    """Give all that was found as JSON."""
    counts = Counter(result.verdict for result in results)
    return {
        "url": target.url,
        "grpc": target.grpc or None,
        "server": target.about,
        "conforms": not breaks(results),
        "passed": counts["passed"],
        "failed": counts["failed"],
        "not_run": counts["not run"],
        "checks": [_entry(result) for result in results],
    }


def as_junit(target: Target, results: Sequence[Result]) -> str:
    """Give the results as a JUnit file, for CI systems."""
    suite = ElementTree.Element(
        "testsuite",
        name="Open Inference Protocol V2",
        tests=str(len(results)),
        failures=str(sum(result.verdict == "failed" for result in results)),
        skipped=str(sum(result.verdict == "not run" for result in results)),
        hostname=target.address,
    )
    for result in results:
        name = f"{result.check.id}[{result.model}]" if result.model else result.check.id
        one = ElementTree.SubElement(
            suite, "testcase", classname=result.check.id.partition(".")[0], name=name, time=f"{result.seconds:.3f}"
        )
        if result.verdict != "passed":
            kind = "failure" if result.verdict == "failed" else "skipped"
            ElementTree.SubElement(one, kind, message=_printable(result.message))
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _entry(result: Result) -> dict[str, Any]:  # JSON
    return {
        "id": result.check.id,
        "title": result.check.title,
        "says": result.check.says,
        "section": result.check.section,
        "model": result.model or None,
        "extension": result.check.extension or None,
        "required": result.is_required,
        "result": result.verdict,
        "message": result.message,
        "seconds": round(result.seconds, 4),
    }


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
