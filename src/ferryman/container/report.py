"""Results as JSON and as JUnit's XML."""

from collections import Counter
from typing import Any
from xml.etree import ElementTree

from ferryman.container.outcome import Outcome
from ferryman.container.suite import Examined


def as_json(examined: Examined) -> dict[str, Any]:  # JSON
    """Give all that was found as JSON."""
    counts = Counter(one.verdict for one in examined.outcomes)
    return {
        "image": examined.image,
        "id": examined.id,
        "platform": examined.platform,
        "engine": examined.engine,
        "bundle": examined.bundle or None,
        "holds": examined.holds,
        "limits": {"memory_mb": examined.limits.memory_mb, "cpus": examined.limits.cpus, "pids": examined.limits.pids},
        "promises": {name: getattr(examined.promises, name) for name in examined.promises.__dataclass_fields__},
        **{verdict.replace(" ", "_"): counts[verdict] for verdict in ("passed", "failed", "told", "not checked")},
        "seconds": round(examined.seconds, 2),
        "checks": [_entry(one) for one in examined.outcomes],
    }


def as_junit(examined: Examined) -> str:
    """Give the results as a JUnit file, for CI systems (Jenkins' junit-10.xsd): failures fail, what was not checked is
    skipped."""
    verdicts = Counter(one.verdict for one in examined.outcomes)
    counts = {"tests": len(examined.outcomes), "failures": verdicts["failed"], "errors": 0,
              "skipped": verdicts["not checked"]}  # fmt: skip
    numbers = {name: str(count) for name, count in counts.items()}
    name = _printable(f"ferryman verify {examined.image}")
    suites = ElementTree.Element("testsuites", {k: v for k, v in numbers.items() if k != "skipped"}, name=name,
                                 time=f"{examined.seconds:.3f}")  # fmt: skip
    suite = ElementTree.SubElement(suites, "testsuite", numbers, name=name, time=f"{examined.seconds:.3f}")
    properties = ElementTree.SubElement(suite, "properties")
    facts: dict[str, object] = {name: getattr(examined, name) for name in ("id", "platform", "engine", "bundle")}
    facts |= {"memory_mb": examined.limits.memory_mb, "cpus": examined.limits.cpus}
    facts |= {f"{one.id}.{key}": value for one in examined.outcomes for key, value in one.figures.items()}
    for key, value in facts.items():
        ElementTree.SubElement(properties, "property", name=key, value=_printable(str(value)))
    for one in examined.outcomes:
        _add_case(suite, one)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _add_case(suite: ElementTree.Element, one: Outcome) -> None:
    case = ElementTree.SubElement(suite, "testcase", classname="ferryman.verify.image", name=one.id,
                                  time=f"{one.seconds:.3f}")  # fmt: skip
    told = _printable(one.message + (f" ({one.hint})" if one.hint else ""))
    if one.verdict == "failed":
        ElementTree.SubElement(case, "failure", message=_printable(one.message), type="broken").text = told
    elif one.verdict == "not checked":
        ElementTree.SubElement(case, "skipped", message=told)
    else:
        ElementTree.SubElement(case, "system-out").text = told


def _entry(one: Outcome) -> dict[str, Any]:  # JSON
    return {"id": one.id, "title": one.title, "verdict": one.verdict, "message": one.message, "hint": one.hint,
            "figures": dict(one.figures), "seconds": round(one.seconds, 3)}  # fmt: skip


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
