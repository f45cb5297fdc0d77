"""Take a bundle whose files come from elsewhere: it lands whole, or nothing changes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ferryman.bundle.read import load_bundle
from ferryman.bundle.swap import staged_folder
from ferryman.bundle.write import refuse_foreign
from ferryman.core.bundle import Bundle


@contextmanager
def landing(destination: Path, accept: Callable[[Bundle], object] = lambda _: None) -> Iterator[Path]:
    """Give an empty folder for a bundle's files; at the end it takes `destination`'s place if every digest is right.

    Raises BundleError where it isn't, or where `destination` holds anything but a bundle, and what `accept` raises.
    """
    refuse_foreign(destination)
    with staged_folder(destination) as folder:
        yield folder
        accept(load_bundle(folder))
