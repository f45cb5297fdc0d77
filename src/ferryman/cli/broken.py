"""Say so where a bundle is used that doesn't keep its contract."""

from ferryman import api
from ferryman.cli.talk import say


def open_target(target: str) -> str | api.Bundle:
    """Give a server's URL as it is, and else the bundle, with a warning where its contract doesn't hold."""
    if api.is_url(target):
        return target
    bundle = api.load(target)
    warn_of_broken(bundle)
    return bundle


def warn_of_broken(bundle: api.Bundle) -> None:
    """Warn on stderr of a bundle whose proof says that its contract doesn't hold."""
    if not bundle.proof.holds:
        text = f"bundle {bundle.manifest.name} does not keep its contract: {bundle.proof.verdict}"
        say(text, label="warning", style="yellow")
