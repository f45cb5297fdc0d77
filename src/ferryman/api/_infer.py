"""Answer with a bundle or with a running server, and draw what was answered."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ferryman.bundle.read import load_bundle
from ferryman.client.access import NOBODY, Access
from ferryman.client.http import Client
from ferryman.client.session import RemoteSession
from ferryman.core.bundle import Bundle
from ferryman.core.errors import BundleError, ConfigError, InputError, TooLarge
from ferryman.core.plugins import runtime_for
from ferryman.core.task import Answer, Item, TaskSpec, bind_task, infer_items
from ferryman.tasks.draw import draw as draw_answer
from ferryman.tasks.picture import read_picture
from ferryman.tasks.tensor import TensorSection, TensorTask

_DRAWN = (".jpg", ".jpeg", ".png")
_HOST_AND_PORT = re.compile(r"(\[[0-9a-fA-F:]+\]|[\w.-]+):\d+(/\S*)?")


def load(bundle: str | Path) -> Bundle:
    """Read a bundle (folder or .ferry) and check every digest; raises BundleError."""
    return load_bundle(_checked(bundle))


def infer(
    target: str | Path | Bundle,
    items: Sequence[str | Item],
    *,
    model: str | None = None,
    threads: int = 0,
    access: Access = NOBODY,
) -> list[Answer]:
    """Answer items (a `str` is a file's name) with a bundle, or with a running server where `target` is a URL.

    `threads` 0 takes as many as the bundle was built for; `access` says who asks a server that wants to know.
    """
    return list(infer_each(target, items, model=model, threads=threads, access=access))


def infer_each(
    target: str | Path | Bundle,
    items: Sequence[str | Item],
    *,
    names: Sequence[str] = (),
    model: str | None = None,
    threads: int = 0,
    access: Access = NOBODY,
) -> Iterator[Answer]:
    """Answer as `infer` does, one after the other, so that an item that is refused costs no answer before it.

    `names` say what each item is called in errors: by default its file's name, or its place.
    """
    if isinstance(items, str | bytes | Path):
        raise InputError("one item was given where a list of items is wanted", hint="put it in [ ]")
    asked: list[Item] = [Path(item) if isinstance(item, str) else item for item in items]
    called = names or [str(item) if isinstance(item, Path) else f"item {n}" for n, item in enumerate(asked, start=1)]
    if isinstance(target, Bundle) or not is_url(target):
        bundle = target if isinstance(target, Bundle) else load(target)
        yield from _answers_here(bundle, asked, called, threads)
        return
    with Client(str(target), access=access) as client:
        yield from _answers_there(client, model or _only_model(client), asked, called)


def _answers_here(bundle: Bundle, items: Sequence[Item], names: Sequence[str], threads: int) -> Iterator[Answer]:
    runtime = runtime_for(bundle.artifact.format, serves=True).require()()
    session = runtime.load(bundle.artifact, threads=bundle.threads(threads))
    try:
        task = bind_task(bundle.deployment.task, bundle.artifact.signature)
        # Files are read one model's batch at a time; rows and arrays are here already.
        has_files = any(isinstance(item, Path) for item in items)
        size = (session.signature.max_batch or 1) if has_files else max(len(items), 1)
        for start in range(0, len(items), size):
            chunk = items[start : start + size]
            with _naming(names[start] if len(chunk) == 1 and has_files else ""):
                answers = infer_items(task, session, chunk)
            yield from answers
    finally:
        session.close()


def _answers_there(client: Client, model: str, items: Sequence[Item], names: Sequence[str]) -> Iterator[Answer]:
    session = RemoteSession(client, model)
    task = TensorTask(TensorSection(), session.signature)  # reads arrays and forms answers as it does with a bundle
    for name, item in zip(names, items, strict=True):
        with _naming(name if len(items) > 1 else ""):
            answer = infer_items(task, session, [item])[0] if session.takes_tensors else client.infer_item(model, item)
        yield answer


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Begin an error about one item with its name, unless it says it already."""
    try:
        yield
    except (InputError, TooLarge) as error:
        if not name or Path(name).name in str(error):
            raise
        raise type(error)(f"{name}: {error}", hint=error.hint) from None


def is_url(target: str | Path) -> bool:
    """Tell a server's address from a bundle's path."""
    return str(target).startswith(("http://", "https://"))


def _checked(target: str | Path) -> Path:
    """Give a bundle's path; raises BundleError for what looks like a server's address without its scheme."""
    if _HOST_AND_PORT.fullmatch(str(target)) and not Path(target).exists():
        raise BundleError(f"there is no bundle at {target}", hint=f"did you mean http://{target}?")
    return Path(target)


def _only_model(client: Client) -> str:
    names = client.models()
    if len(names) != 1:
        raise ConfigError(f"the server has {len(names)} models: {', '.join(names)}", hint="say which with --model")
    return names[0]


def draw(target: str | Path | Bundle, item: str | Path, answer: Answer, destination: str | Path) -> None:
    """Draw the answer of a bundle or server over its picture and write that (.jpg or .png)."""
    import cv2

    file = Path(destination)
    suffix = file.suffix.lower()
    if suffix not in _DRAWN:
        raise ConfigError(f"can't draw to {file}: unknown kind of picture '{suffix}'", hint="name a .jpg or .png file")
    task = TaskSpec(kind="any")
    if isinstance(target, Bundle):
        task = target.deployment.task
    elif not is_url(target):
        task = load(target).deployment.task
    picture = draw_answer(task, read_picture(Path(item), name=str(item)), answer)
    is_encoded, encoded = cv2.imencode(suffix, picture)
    if not is_encoded:
        raise ConfigError(f"a picture of {picture.shape[1]} x {picture.shape[0]} pixels can't be a {suffix}")
    try:
        file.write_bytes(encoded.tobytes())
    except OSError as error:
        raise ConfigError(f"can't write to {file}: {error.strerror}", hint="choose another place") from None
