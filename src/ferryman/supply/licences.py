"""Say under which licence a package is, as an SPDX expression where its metadata tells that much."""

import re
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any, Protocol

UNKNOWN = "unknown"
_LONGEST_NAME = 60  # what is longer is the licence itself, and no name of it
_TEXTS = {
    "apache 2.0": "Apache-2.0", "apache-2.0": "Apache-2.0", "apache license 2.0": "Apache-2.0",
    "apache license v2.0": "Apache-2.0", "apache license, version 2.0": "Apache-2.0",
    "bsd-2-clause": "BSD-2-Clause", "bsd 2-clause license": "BSD-2-Clause", "freebsd": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause", "bsd 3-clause": "BSD-3-Clause", "3-clause bsd license": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause", "hpnd": "HPND", "isc": "ISC", "mit": "MIT", "mit license": "MIT",
    "mpl-2.0": "MPL-2.0", "psf-2.0": "PSF-2.0", "zlib": "Zlib",
}  # fmt: skip
_CLASSIFIERS = {
    "Apache Software License": "Apache-2.0", "MIT License": "MIT", "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0", "Python Software Foundation License": "PSF-2.0",
    "Historical Permission Notice and Disclaimer (HPND)": "HPND", "BSD License": "BSD",
}  # fmt: skip
_SHORT = frozenset(("MIT", "ISC", "HPND", "Zlib", "Unlicense", "X11", "NCSA", "WTFPL", "curl", "libtiff", "IJG", "FTL"))
_ID = re.compile(
    r"(DocumentRef-[\w.-]+:)?LicenseRef-[\w.-]+|[A-Za-z][A-Za-z0-9.]*(-[A-Za-z0-9.]+)*-\d[\w.+-]*|0BSD|[A-Za-z]+-exception",
    re.A,
)


class Metadata(Protocol):
    """Be a package's core metadata, as importlib.metadata reads it."""

    def get_all(self, name: str, failobj: Any = None) -> Any:  # a list of texts, or failobj
        """Give every value of a field."""


def licence_of(fields: Metadata) -> str:
    """Give the licence of core metadata: an SPDX expression, else the name that it has there, else "unknown".

    License-Expression (PEP 639) goes before the older License, whose text is anybody's, and that before classifiers.
    """
    if expression := _first(fields, "License-Expression"):
        return expression
    text = _first(fields, "License")
    if known := _TEXTS.get(text.casefold()):
        return known
    classified = [
        line.rpartition(" :: ")[2] for line in fields.get_all("Classifier", []) if line.startswith("License ::")
    ]
    found = [_CLASSIFIERS[name] for name in classified if name in _CLASSIFIERS]
    if found:
        return " AND ".join(sorted(set(found))) if "BSD" not in found else "BSD"
    return text if 0 < len(text) <= _LONGEST_NAME and text.isprintable() else UNKNOWN


def known_as(text: str) -> str:
    """Give the SPDX expression for what packages call their licence, where there is no doubt; else the text itself."""
    return _TEXTS.get(text.casefold()) or _CLASSIFIERS.get(text) or text or UNKNOWN


def licence_of_installed(package: str, version: str) -> str:
    """Give the licence of a package that is installed in that version here; "unknown" where another is."""
    try:
        fields = metadata(package)
    except PackageNotFoundError:
        return UNKNOWN
    return licence_of(fields) if fields["Version"] == version else UNKNOWN


def is_spdx(text: str) -> bool:
    """Tell whether a text has the form of an SPDX expression: Apache-2.0, MIT OR (GPL-2.0-only WITH a-1.0)."""
    words = text.replace("(", " ").replace(")", " ").split()
    ids, between = words[::2], words[1::2]
    is_joined = len(words) % 2 == 1 and all(word in ("AND", "OR", "WITH") for word in between)
    return is_joined and all(word in _SHORT or _ID.fullmatch(word) for word in ids)


def licence_json(licence: str | None) -> list[dict[str, Any]]:  # JSON
    """Give a licence as CycloneDX has it; what is no SPDX expression goes by its name."""
    if licence and is_spdx(licence):
        return [{"expression": licence}]
    return [{"license": {"name": licence or UNKNOWN}}]


def _first(fields: Metadata, name: str) -> str:
    return str((fields.get_all(name) or [""])[0]).strip()
