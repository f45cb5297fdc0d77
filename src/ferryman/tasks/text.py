"""Turn texts into a language model's input tensors, by a tokenizer that is a file beside the spec."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, PrivateAttr

from ferryman.core.artifact import digest_file
from ferryman.core.errors import BundleError, ConfigError, InputError
from ferryman.core.signature import Array, Signature, TensorSpec
from ferryman.core.task import Item, TaskSpec
from ferryman.tasks.given import describe_given
from ferryman.tasks.labels import Names

TOKENIZER = "task/tokenizer.json"
"""Where a bundle holds it."""

_PORTS = ("input_ids", "attention_mask", "token_type_ids")
_SAVE = "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) of transformers writes one"
Side = Literal["left", "right"]


class TextSpec(TaskSpec):
    """Be what all tasks of texts have in `[task]`: the tokenizer, and how long a text may be."""

    tokenizer: str = Field(min_length=1, description="The file tokenizer.json of Hugging Face's tokenizers.")
    tokenizer_sha256: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="What its digest must be; a build writes it into the bundle."
    )
    columns: Annotated[Names, Field(max_length=2)] = Field(
        ("text",), description="What the text is called in tables and requests; two names: a pair of texts."
    )
    max_tokens: Annotated[int, Field(gt=2, le=1_000_000)] = Field(512, description="Longest input of the model.")
    truncate: bool = Field(True, description="Cut what is longer than max_tokens; false: refuse it.")
    truncate_side: Side = Field("right", description="Which end is cut off.")
    pad_token: str | None = Field(
        None, description="Token that fills up shorter texts of a batch; number 0 by default."
    )
    pad_side: Side = Field("right", description="At which end it is put.")
    max_chars: Annotated[int, Field(gt=0, le=10_000_000)] = Field(
        200_000, description="Longest text that is taken at all, in characters: work and memory grow with it."
    )
    _folder: Path | None = PrivateAttr(None)

    def resolved(self, folder: Path) -> Self:
        """Give the spec knowing its tokenizer file, relative to `folder`, and its digest; raises ConfigError."""
        file = folder / self.tokenizer
        if not file.is_file():
            raise ConfigError(f"[task] tokenizer: there is no file {file}", hint=_SAVE)
        digest = digest_file(file)
        if self.tokenizer_sha256 not in (None, digest):
            raise ConfigError(
                f"[task] tokenizer: {file} has sha256 {digest}; tokenizer_sha256 is {self.tokenizer_sha256}",
                hint="another tokenizer gives the model other numbers: correct the file or the digest",
            )
        return self._found_in(folder, tokenizer_sha256=digest)

    def packed(self) -> tuple[Self, Mapping[str, Path]]:
        """Give the spec with its tokenizer named as in a bundle, and the file."""
        return self._found_in(self._folder, tokenizer=TOKENIZER), {TOKENIZER: self.file}

    def unpacked(self, folder: Path) -> Self:
        """Give the spec of a bundle with its tokenizer found there; raises BundleError where it names another file."""
        if self.tokenizer != TOKENIZER or self.tokenizer_sha256 is None:
            raise BundleError(
                f"the bundle's tokenizer is '{self.tokenizer}', not its own {TOKENIZER}", hint="build it again"
            )
        return self._found_in(folder)

    @property
    def file(self) -> Path:
        """Give the tokenizer's path; raises ConfigError before `resolved` or `unpacked`."""
        if self._folder is None:
            raise ConfigError(
                f"[task] tokenizer = '{self.tokenizer}' was not read yet", hint="use spec.resolved(folder)"
            )
        return self._folder / self.tokenizer

    def _found_in(self, folder: Path | None, **changed: str) -> Self:
        spec = self.model_copy(update=changed)
        spec._folder = folder
        return spec


@dataclass(frozen=True)
class TextPort:
    """Hold a text spec bound to one model's inputs. `length` is the model's fixed number of tokens, or None."""

    spec: TextSpec
    ports: Mapping[str, TensorSpec]
    length: int | None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def _tokenizer(self) -> Any:  # tokenizers.Tokenizer
        # Read on first use: who only compares answers binds a task, too, and needs no tokenizer.
        return _load(self.spec, self._most)

    @property
    def _most(self) -> int:
        return min(self.spec.max_tokens, self.length or self.spec.max_tokens)

    def write(self, items: Sequence[Item]) -> dict[str, Array]:
        """Give the inputs of a batch, padded to its longest text; raises InputError that names the text."""
        with self._lock:
            tokenizer = self._tokenizer
        encoded = [self._encode(tokenizer, item, place) for place, item in enumerate(items)]
        width = self.length or max(2, *(len(ids) for ids, _ in encoded))  # exported graphs may take no single token
        pad = 0 if self.spec.pad_token is None else tokenizer.token_to_id(self.spec.pad_token)
        shape = (len(items), width)
        values: dict[str, Array] = {
            name: np.full(shape, pad if name == "input_ids" else 0, port.dtype) for name, port in self.ports.items()
        }
        for row, (ids, type_ids) in enumerate(encoded):
            count = len(ids)
            at = slice(width - count, width) if self.spec.pad_side == "left" else slice(0, count)
            filled: dict[str, Array | int] = {"input_ids": ids, "attention_mask": 1, "token_type_ids": type_ids}
            for name, array in values.items():
                array[row, at] = filled[name]
        return values

    def _encode(self, tokenizer: Any, item: Item, place: int) -> tuple[Array, Array]:  # tokenizers.Tokenizer
        encoded = tokenizer.encode(*self._texts(item, place))
        name = f"text {place + 1}"
        ids, type_ids = np.array(encoded.ids, np.int64), np.array(encoded.type_ids, np.int64)
        if len(ids) > self._most and self.spec.truncate:
            kept = _kept(encoded.sequence_ids, self._most, self.spec.truncate_side)
            ids, type_ids = ids[kept], type_ids[kept]
        if not len(ids):
            raise InputError(f"{name} is empty: the tokenizer makes nothing of it", hint="send some words")
        if len(ids) > self._most:
            raise InputError(
                f"{name} has {len(ids)} tokens; the model takes {self._most}",
                hint="send it in parts, or set [task] truncate = true",
            )
        return ids, type_ids

    def _texts(self, item: Item, place: int) -> list[str]:
        columns = self.spec.columns
        name = f"text {place + 1}"
        if not isinstance(item, Mapping):
            raise InputError(f"{name} is {describe_given(item)}", hint=f'send {{"{columns[0]}": "..."}}')
        if all(column in item for column in columns) and (unknown := [key for key in item if key not in columns]):
            raise InputError(
                f"{name} has '{unknown[0]!s:.80}', which the model doesn't take", hint=f"it takes {', '.join(columns)}"
            )
        texts = []
        for column in columns:
            if column not in item:
                given = ", ".join(f"'{key!s:.40}'" for key in list(item)[:5])
                raise InputError(f"{name}: '{column}' is missing", hint=f"it has {given or 'nothing'}")
            texts.append(self._checked(item[column], f"{name}: '{column}'"))
        return texts

    def _checked(self, text: object, where: str) -> str:
        if not isinstance(text, str):
            raise InputError(f"{where} is {describe_given(text)}, not text", hint="put it in quotes")
        if len(text) > self.spec.max_chars:
            raise InputError(
                f"{where} has {len(text)} characters; at most {self.spec.max_chars} are taken",
                hint="send it in parts, or build with a larger [task] max_chars",
            )
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{where}: character {error.start + 1} is half of one (a lone surrogate)", hint="send valid Unicode"
            ) from None
        return text


def bind_text(spec: TextSpec, signature: Signature) -> TextPort:
    """Fit a text spec to the model's inputs; raises ConfigError that says what doesn't fit."""
    ports = {port.name: port for port in signature.inputs}
    whole = {name: port for name, port in ports.items() if len(port.shape) == 2 and port.dtype in ("int64", "int32")}
    if "input_ids" not in whole or "attention_mask" not in whole or set(whole) != set(ports) or set(ports) - {*_PORTS}:
        shapes = ", ".join(f"'{port.name}' {port.dtype} {list(port.shape)}" for port in signature.inputs)
        raise ConfigError(
            f"[task] kind = '{spec.kind}' needs a model with inputs input_ids and attention_mask (and, where it tells "
            f"texts of a pair apart, token_type_ids), whole numbers of [batch, tokens]; this one takes {shapes}",
            hint="use kind = 'tensor' for other models",
        )
    fixed = {port.shape[1] for port in ports.values() if isinstance(port.shape[1], int)}
    return TextPort(spec, ports, min(fixed) if fixed else None)


def _load(spec: TextSpec, most: int) -> Any:  # tokenizers.Tokenizer
    from tokenizers import Tokenizer

    try:
        if digest_file(spec.file) != spec.tokenizer_sha256:
            raise ConfigError(f"[task] tokenizer: {spec.file} was changed meanwhile", hint="build again")
        tokenizer = Tokenizer.from_file(str(spec.file))
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001 - the library raises plain Exception
        raise ConfigError(f"[task] tokenizer: {spec.file} can't be read: {error}", hint=_SAVE) from None
    if spec.pad_token is not None and tokenizer.token_to_id(spec.pad_token) is None:
        raise ConfigError(f"[task] pad_token = '{spec.pad_token}' is no token of {spec.file.name}", hint=_SAVE)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    added = tokenizer.num_special_tokens_to_add(len(spec.columns) == 2)
    if spec.truncate and most <= added:
        raise ConfigError(
            f"[task] max_tokens: {most} tokens hold no text, as the tokenizer adds {added} of its own",
            hint="give it the model's own length",
        )
    return tokenizer


def _kept(sequence_ids: Sequence[int | None], most: int, side: Side) -> Array:
    """Give the places of the tokens that longest_first leaves: the longer text of a pair is cut first.

    Not the library's own truncation: it builds every combination of the parts that it cuts off two texts.
    """
    texts = np.array([-1 if one is None else one for one in sequence_ids], np.int64)  # -1: the tokenizer's own marks
    room = most - int((texts == -1).sum())
    first, second = (np.flatnonzero(texts == one) for one in (0, 1))
    short, long = sorted((len(first), len(second)))
    long = min(long, max(short, room - short))
    if short + long > room:
        short, long = room // 2, room - room // 2
    shares = (short, long) if len(first) <= len(second) else (long, short)
    cut = [
        places[len(places) - share :] if side == "left" else places[:share]
        for places, share in zip((first, second), shares, strict=True)
    ]
    return np.sort(np.concatenate([np.flatnonzero(texts == -1), *cut]))
