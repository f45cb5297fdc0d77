"""Labelled texts that every Python brings along: what its library says of itself, by what it is about."""

import importlib
import inspect
import random
from functools import cache

TOPICS = {
    "numbers": ("decimal", "fractions", "statistics", "random", "math", "cmath", "numbers", "colorsys"),
    "files": ("os", "shutil", "pathlib", "tempfile", "zipfile", "tarfile", "glob", "mmap", "gzip", "io"),
    "internet": ("email.message", "http.client", "http.server", "urllib.request", "smtplib", "imaplib"),
    "processes": ("threading", "asyncio", "multiprocessing.pool", "concurrent.futures", "queue", "signal"),
}
NAMES = list(TOPICS)


@cache
def labelled() -> list[tuple[str, int]]:
    """Give some hundred first paragraphs of docstrings and the number of their topic, shuffled, always in one order."""
    found: dict[str, int] = {}
    for place, modules in enumerate(TOPICS.values()):
        for name in modules:
            for text in _paragraphs(importlib.import_module(name)):
                found.setdefault(text, place)
    rows = sorted(found.items())
    random.Random(0).shuffle(rows)
    return rows


def _paragraphs(module: object) -> list[str]:
    pending = [value for _, value in inspect.getmembers(module)]
    texts = []
    for value in pending:
        members = [member for _, member in inspect.getmembers(value)] if inspect.isclass(value) else []
        for one in (value, *members):
            if not callable(one) or not str(getattr(one, "__module__", "")).startswith(str(module.__name__)[:4]):  # type: ignore[attr-defined]  # a module
                continue
            text = " ".join((inspect.getdoc(one) or "").partition("\n\n")[0].split())
            if 30 <= len(text) <= 400:
                texts.append(text)
    return texts
