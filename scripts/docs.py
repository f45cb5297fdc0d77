"""Write docs/reference/*.md from the code: commands, the keys of ferryman.toml, formats. `--check` only compares."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docs_formats import formats_page

from ferryman.cli.main import VERBS
from ferryman.core.deployment import deployment_schema

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "reference"
NOTICE = "<!-- Written by scripts/docs.py from the code; `make docs` writes it again. -->\n"
Schema = dict[str, Any]  # JSON schema


def help_text(*arguments: str) -> str:
    """Give the help of a command as a terminal of 100 columns shows it."""
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "ferryman", *arguments, "--help"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    return "\n".join(line.rstrip() for line in result.stdout.strip().splitlines())


def command_page() -> str:
    """Write the page of commands."""
    parts = [NOTICE, "# Commands\n", f"```text\n{help_text()}\n```\n"]
    for name in VERBS:
        parts.append(f"## ferryman {name}\n\n```text\n{help_text(name)}\n```\n")
    return "\n".join(parts)


def resolve(schema: Schema, definitions: Schema) -> Schema:
    """Follow a reference; descriptions beside it win."""
    if "$ref" not in schema:
        return schema
    return {**definitions[schema["$ref"].rpartition("/")[2]], **{key: schema[key] for key in schema if key != "$ref"}}


def type_text(schema: Schema, definitions: Schema) -> str:
    """Say in a word or two what a key takes."""
    schema = resolve(schema, definitions)
    if "const" in schema:
        return f"`{schema['const']!r}`".replace("'", '"')
    if "enum" in schema:
        return ", ".join(f'`"{value}"`' for value in schema["enum"])
    if "anyOf" in schema:
        kinds = [type_text(part, definitions) for part in schema["anyOf"] if part.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if schema.get("type") == "array":
        inner = schema.get("items") or (schema.get("prefixItems") or [{}])[0]
        return f"list of {type_text(inner, definitions)}"
    if schema.get("type") == "object":
        keys = list(schema.get("properties", {}))
        return "{ " + ", ".join(keys) + " }" if keys else "table"
    return str(schema.get("type", "any")) + limits_text(schema)


def limits_text(schema: Schema) -> str:
    """Say the bounds of a number."""
    signs = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
    bounds = [f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema]
    return f" {', '.join(bounds)}" if bounds else ""


def default_text(name: str, schema: Schema, required: list[str]) -> str:
    """Say what holds where a key is left out."""
    if name in required:
        return "**required**"
    value = schema.get("default")
    if value is None or value in ({}, [], ""):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def rows(section: Schema, definitions: Schema, prefix: str = "") -> Iterator[str]:
    """Yield a table row for each key of a section, inner tables flattened."""
    required = section.get("required", [])
    for name, raw in section.get("properties", {}).items():
        schema = resolve(raw, definitions)
        options = [resolve(part, definitions) for part in schema.get("anyOf", [schema])]
        inner = next((part for part in options if part.get("properties")), None)
        said = schema.get("description", "").replace("\n", " ").replace("|", "\\|")
        if inner is not None and schema.get("type") != "array":
            yield f"| `{prefix}{name}` | table | {default_text(name, {}, required)} | {said} |"
            yield from rows(inner, definitions, f"{prefix}{name}.")
            continue
        kind = type_text(schema, definitions).replace("|", "\\|")
        yield f"| `{prefix}{name}` | {kind} | {default_text(name, schema, required)} | {said} |"


def table(section: Schema, definitions: Schema) -> str:
    """Give a section's keys as a table."""
    return "\n".join(["| key | takes | default | |", "|---|---|---|---|", *rows(section, definitions)]) + "\n"


def settings_page() -> str:
    """Write the page of ferryman.toml's keys."""
    schema = deployment_schema()
    definitions = schema["$defs"]
    parts = [
        NOTICE,
        "# ferryman.toml\n",
        "Unknown keys are errors. `ferryman schema` prints the same as JSON schema, for editors.\n",
    ]
    for name, raw in schema["properties"].items():
        if name == "task":
            for task in raw["oneOf"]:
                kind = task["properties"]["kind"]["const"]
                parts.append(f'## [task] with kind = "{kind}"\n\n{table(task, definitions)}')
            continue
        if name == "targets":
            for target in raw["additionalProperties"]["anyOf"]:
                kind = target["properties"]["kind"]["const"]
                parts.append(f'## [targets.NAME] with kind = "{kind}"\n\n{table(target, definitions)}')
            continue
        section = resolve(raw, definitions)
        if "properties" in section:
            parts.append(f"## [{name}]\n\n{table(section, definitions)}")
        else:
            parts.append(f"## [{name}.NAME]\n\n{section.get('description', '')}\n")
    return "\n".join(parts)


def main() -> int:
    """Write the pages, or with --check say which are stale (1)."""
    pages = {"commands.md": command_page(), "settings.md": settings_page(), "formats.md": formats_page(NOTICE)}
    stale = [
        name
        for name, text in pages.items()
        if not (FOLDER / name).is_file() or (FOLDER / name).read_text(encoding="utf-8") != text
    ]
    if "--check" in sys.argv[1:]:
        for name in stale:
            print(f"docs/reference/{name} is stale; run `make docs`", file=sys.stderr)
        return 1 if stale else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in stale:
        (FOLDER / name).write_text(pages[name], encoding="utf-8")
        print(f"wrote docs/reference/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
