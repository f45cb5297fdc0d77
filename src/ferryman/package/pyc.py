"""Compile Python files to the same bytes on every run (PEP 552: unchecked, hash-based)."""

import importlib.util
import marshal
import sys
import warnings
from importlib.machinery import SOURCE_SUFFIXES

_UNCHECKED = 0b01
_WITHOUT_REFERENCES = 2  # marshal's later formats tell which objects are shared, and that is not the same in each run


def compiled_name(name: str, tag: str) -> str:
    """Say where the compiled form of a file lies: beside it, in __pycache__."""
    folder, _, file = name.rpartition("/")
    return f"{folder}{'/' * bool(folder)}__pycache__/{file.removesuffix(SOURCE_SUFFIXES[0])}.{tag}.pyc"


def compile_source(source: bytes, name: str) -> bytes | None:
    """Compile a file that will lie at `/name`; None where this Python takes it for no program."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = compile(source, f"/{name}", "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError):
        return None  # a template, or a file for a newer Python: it is imported by nobody here
    head = importlib.util.MAGIC_NUMBER + _UNCHECKED.to_bytes(4, "little") + importlib.util.source_hash(source)
    return head + marshal.dumps(code, _WITHOUT_REFERENCES)


def running_tag() -> str:
    """Give the tag of what this Python compiles, as cpython-311."""
    return sys.implementation.cache_tag or ""
