"""Write a task as one ES module without dependencies, and a page around it."""

import json
import re
from html import escape
from importlib.resources import files

from ferryman.core.signature import Signature
from ferryman.core.task import TaskSpec
from ferryman.tasks.javascript.bound import bind_spec

_PARTS = ("resample", "tensors", "image", "boxes", "table", "tasks")
"""The hand-written modules, each after what it imports."""

_DOOR = """
// What this model's tensors mean: made from its [task] section.
export const spec = {spec};

/** Turn items into {{inputs: {{name: {{dtype, shape, data}}}}, contexts}}. A picture: {{data: RGBA, width, height}}. */
export const preprocess = (items) => preprocessWith(spec, items);

/** Turn the model's outputs {{name: {{dtype, shape, data}}}} for such a batch into one answer an item. */
export const postprocess = (outputs, batch) => postprocessWith(spec, outputs, batch);

export {{ InputError }};
"""


def render_module(spec: TaskSpec, signature: Signature) -> str:
    """Give the module `ferryman.js`: `spec`, `preprocess` and `postprocess`, for browsers and Node alike.

    Raises ConfigError for a kind of task that has no JavaScript, and where spec and model don't fit.
    """
    bound = json.dumps(bind_spec(spec, signature), ensure_ascii=False, allow_nan=False)
    library = "\n".join(_inlined(_read(f"{name}.mjs")) for name in _PARTS)
    return library + _DOOR.format(spec=bound)


def render_page(spec: TaskSpec, signature: Signature, *, title: str) -> dict[str, str]:
    """Give the files, by name, that make a page to try a model on, beside its folder `model` with `engine.js`."""
    page = _read("page.html").replace("{{title}}", escape(title))
    return {
        "index.html": page,
        "page.js": _read("page.mjs"),
        "ferryman.js": render_module(spec, signature),
        "package.json": '{"type": "module"}\n',  # for Node, which takes .js files for CommonJS otherwise
    }


def _inlined(text: str) -> str:
    """Make a part of one file: without its imports, and with nothing exported."""
    return re.sub(r"^export ", "", re.sub(r"^import .*\n", "", text, flags=re.MULTILINE), flags=re.MULTILINE)


def _read(name: str) -> str:
    return files("ferryman.tasks.javascript").joinpath(name).read_text(encoding="utf-8")
