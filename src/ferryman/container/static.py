"""Checks of what an image is made of and says of itself; nothing of it runs."""

from pathlib import PurePosixPath

from ferryman.container.outcome import Fails, Finding, NotChecked
from ferryman.container.visit import Visit

_SHELLS = {"sh", "bash", "dash", "ash", "busybox", "zsh", "ksh"}
_SET_ID = 0o6000
_LABELS = ("org.opencontainers.image.title", "org.opencontainers.image.version")
_MOST_NAMED = 4


def size(visit: Visit) -> Finding:
    """Compare the layers' size, uncompressed, with the budget."""
    contents = visit.contents
    packed_mb = visit.packed_mb if visit.packed_mb is not None else contents.gzip_mb
    largest = max((layer.size_bytes / 1e6 for layer in contents.layers), default=0.0)
    about = "about " if visit.packed_mb is None else ""
    figures = {"size_mb": round(contents.size_mb, 1), "compressed_mb": round(packed_mb, 1),
               "largest_layer_mb": round(largest, 1), "layers": len(contents.layers)}  # fmt: skip
    told = f"{contents.size_mb:.0f} MB in {len(contents.layers)} layers, {about}{packed_mb:.0f} MB compressed"
    limit = visit.promises.max_image_mb
    if limit is None:
        raise NotChecked(f"{told}; nobody promised a size", hint="--max-image-mb promises one", figures=figures)
    figures["promised_mb"] = limit
    if contents.size_mb > limit:
        big = sorted(visit.contents.files.values(), key=lambda entry: entry.size, reverse=True)[:3]
        named = ", ".join(f"/{entry.path} {entry.size / 1e6:.0f} MB" for entry in big)
        raise Fails(f"{told}: over {limit:g} MB", hint=f"the largest files: {named}", figures=figures)
    return Finding(f"{told}, of at most {limit:g} MB", figures)


def setuid(visit: Visit) -> Finding:
    """Find files that give whoever runs them more rights."""
    found = [f"/{one.path}" for one in visit.contents.files.values() if one.is_file and one.mode & _SET_ID]
    found += [f"/{one.path} (capability)" for one in visit.contents.files.values() if one.has_capability]
    if found:
        raise Fails(f"{_named(found)} give more rights", hint="chmod a-s, or leave them out",
                    figures={"files": len(found)})  # fmt: skip
    return Finding(f"none of {len(visit.contents.files)} files is setuid, setgid or has capabilities")


def shell(visit: Visit) -> Finding:
    """Tell whether an intruder would find a shell."""
    found = sorted(f"/{path}" for path in visit.contents.files if PurePosixPath(path).name in _SHELLS
                   and PurePosixPath(path).parent.name in ("bin", "sbin"))  # fmt: skip
    if found:
        return Finding(_named(found), {"shells": len(found)}, "a base without one gives intruders less", is_advice=True)
    return Finding("no shell in it")


def secrets(visit: Visit) -> Finding:
    """Look for what looks like a secret in the environment, the history and every layer."""
    leaks = visit.contents.leaks
    if leaks:
        raise Fails(
            _named([f"{leak.where}: {leak.what}" for leak in leaks]),
            hint="a later layer hides nothing: build without it, and change that secret",
            figures={"found": len(leaks)},
        )
    return Finding("nothing looks like a secret in environment, history and files (simple rules; no proof)")


def labels(visit: Visit) -> Finding:
    """Look for the labels by which people and tools know an image (OCI image-spec, annotations.md)."""
    missing = [name for name in _LABELS if not visit.facts.labels.get(name)]
    if not missing:
        title, version = (visit.facts.labels[name] for name in _LABELS)
        return Finding(f"{title} {version}")
    told = f"{', '.join(missing)} missing"
    if visit.contents.bundle is not None:
        raise Fails(told, hint="`ferryman package` sets them", figures={"missing": len(missing)})
    return Finding(told, {"missing": len(missing)}, "LABEL in a Dockerfile sets them",
                   is_advice=True)  # fmt: skip


def bundle(visit: Visit) -> Finding:
    """Tell whether the image's bundle is whole, the one that is meant, and one whose contract held."""
    if visit.bundle_error:
        raise Fails(visit.bundle_error, hint="package it again from the bundle that was verified")
    if visit.contents.bundle is None or visit.bundle is None:
        hint = "" if visit.bundle else "--bundle DIR names the bundle that the image serves"
        raise NotChecked(visit.bundle_missing or "there is no bundle in the image", hint=hint)
    held = visit.bundle.manifest
    if not visit.bundle.proof.holds:
        raise Fails(f"{held.name} was bundled although its contract does not hold: {visit.bundle.proof.verdict}",
                    hint="build again, until it holds")  # fmt: skip
    return Finding(f"{held.name} {held.digest[:12]}, {held.format} {held.precision}, every file as its digest says")


def _named(found: list[str]) -> str:
    more = len(found) - _MOST_NAMED
    return ", ".join(found[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
