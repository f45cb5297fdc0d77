"""Write constraints/*.txt: the exact versions, as installed here, of all that Ferryman and its extras lead to.

Run it in an environment where the whole test suite passes: `.venv/bin/python scripts/lock.py`.
"""

import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
# Only its multi-GPU training uses it, and it weighs hundreds of megabytes; scripts/setup leaves it out too.
UNWANTED = {"nvidia-nccl-cu12"}
ELSEWHERE = {"tensorrt"}  # needs a GPU, and packages that only NVIDIA's own index has
# 2 MB where 0.5.4 takes 25; only the test client holds the whole suite back (tritonclient wants <= 0.5.4).
CORE_INSTEAD = {"ml-dtypes": "0.6.0"}


def versions_of(requirements: list[str]) -> dict[str, str]:
    """Follow requirements to everything installed that they need; gives versions by name, without local suffixes."""
    versions: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    pending = [(Requirement(text), "") for text in requirements]
    while pending:
        requirement, extra = pending.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        if name in UNWANTED or name == "ferryman":
            continue
        try:
            found = distribution(name)
        except PackageNotFoundError:
            raise SystemExit(f"error: {name} is not installed here\nhint: run `make setup` first") from None
        versions[name] = found.version.split("+")[0]
        for wanted in {"", *requirement.extras} - {part for known, part in seen if known == name}:
            seen.add((name, wanted))
            pending.extend((Requirement(text), wanted) for text in found.requires or [])
    return versions


def main() -> None:
    """Write both files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = project["optional-dependencies"]
    extras = [text for name, group in groups.items() if name not in ELSEWHERE for text in group]
    for name, requirements in (("core", project["dependencies"]), ("all", project["dependencies"] + extras)):
        versions = versions_of(requirements) | (CORE_INSTEAD if name == "core" else {})
        lines = [f"{package}=={version}" for package, version in sorted(versions.items())]
        head = "# Versions tested together. Written by scripts/lock.py; don't edit.\n"
        (ROOT / "constraints" / f"{name}.txt").write_text(head + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
