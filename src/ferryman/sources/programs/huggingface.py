"""Open, run and export models of Hugging Face's transformers. Imports nothing of Ferryman; never asks the network."""

import inspect
import os
from typing import Any

os.environ.update(
    HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="0"
)

import torch
import transformers

torch.set_num_threads(1)  # one pass over a model gains nothing by more, and much is lost where others work, too

_PROBES = ("A plain sentence.", "Größe, 漢字 & emoji 🙂 don't\tmix\u00a0WELL…", "  two   spaces\nand a line, 3.14159 ")
_TEXT = ("input_ids", "attention_mask", "token_type_ids")


def describe(request: "dict[str, Any]", tell: Any) -> "dict[str, Any]":
    """Load the model, call it once, and say its inputs' and output's names and shapes, and what its tokenizer is."""
    tell("huggingface", note="loading the model")
    network = _network(request)
    examples = network.examples(batch=2, length=5)
    with torch.no_grad():
        answer = network(*examples.values())
    specs = [
        {"name": name, "dtype": str(tensor.dtype).removeprefix("torch."), "shape": network.sizes(name)}
        for name, tensor in examples.items()
    ]
    output = {"name": network.output, "dtype": "float32", "shape": ["batch", *answer.shape[1:]]}
    told = {} if network.is_picture else _tokenizer(request["folder"], network.names)
    return {"signature": {"inputs": specs, "outputs": [output]}, "tokenizer": told}


def export(request: "dict[str, Any]", tell: Any) -> "dict[str, Any]":
    """Write the model as ONNX, with batch and length free; raises Refused with torch's first words."""
    network = _network(request)
    tell("huggingface", note="torch.export")
    examples = network.examples(batch=3, length=7)
    most = int(request["head"].get("most", 512))  # positions are a table: torch proves that no text is longer
    dims = {"batch": torch.export.Dim("batch", min=1), "tokens": torch.export.Dim("tokens", min=2, max=most)}
    free = {
        name: {axis: dims[size] for axis, size in enumerate(network.sizes(name)) if isinstance(size, str)}
        for name in examples
    }
    try:
        program = torch.export.export(
            network, tuple(examples.values()), dynamic_shapes=(tuple(free.values()),), strict=False
        )
        tell("huggingface", note="to ONNX")
        made = torch.onnx.export(
            program, (), dynamo=True, external_data=False, verbose=False,
            input_names=list(examples), output_names=[network.output],
        )  # fmt: skip
    except Exception as error:
        raise Refused(
            f"torch can't export this model to ONNX: {_innermost(error)}",
            hint="export it yourself (optimum-cli export onnx) and name that .onnx file as the source",
        ) from error
    made.save(request["target"], external_data=False)
    return {}


class Model:
    """Answer tensors with the model as torch computes it."""

    def __init__(self, request: "dict[str, Any]", tell: Any) -> None:
        torch.set_num_threads(max(int(request["threads"]), 1))
        self._network = _network(request)

    def infer(self, inputs: "dict[str, Any]") -> "dict[str, Any]":
        """Give the one output by its name."""
        given = [torch.from_numpy(inputs[name].copy()) for name in self._network.names]
        with torch.no_grad():
            return {self._network.output: self._network(*given).numpy()}


class _Network(torch.nn.Module):
    """Be a model that takes tensors one after the other and gives one: scores of classes, or a vector a text."""

    def __init__(self, model: Any, names: "list[str]", head: "dict[str, Any]") -> None:
        super().__init__()
        self.model = model
        self.names = names
        self.is_picture = head["kind"] == "picture"
        self.output = "sentence_embedding" if head["kind"] == "embed" else "logits"
        self._head = head

    def forward(self, *tensors: Any) -> Any:  # torch.Tensor
        """Answer a batch."""
        given = dict(zip(self.names, tensors, strict=True))
        found = self.model(**given, return_dict=True)
        if self._head["kind"] != "embed":
            return found.logits
        return _pooled(found.last_hidden_state, given["attention_mask"], self._head)

    def sizes(self, name: str) -> "list[int | str]":
        """Give a tensor's shape with the names of what is free."""
        return ["batch", 3, *self._head["size"]] if self.is_picture else ["batch", "tokens"]

    def examples(self, *, batch: int, length: int) -> "dict[str, Any]":
        """Give inputs that the model takes, in order."""
        if self.is_picture:
            return {self.names[0]: torch.rand(batch, *self.sizes(self.names[0])[1:])}
        ones = {"input_ids": torch.full, "attention_mask": torch.full}
        return {name: torch.full((batch, length), 1 if name in ones else 0, dtype=torch.int64) for name in self.names}


def _pooled(states: Any, mask: Any, head: "dict[str, Any]") -> Any:  # torch.Tensor
    if head["pooling"] == "cls":
        vector = states[:, 0]
    else:
        weights = mask.unsqueeze(-1).to(states.dtype)
        vector = (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)
    return torch.nn.functional.normalize(vector, dim=-1) if head["normalize"] else vector


def _network(request: "dict[str, Any]") -> _Network:
    folder, head = request["folder"], request["head"]
    classes = {
        "picture": transformers.AutoModelForImageClassification,
        "classify": transformers.AutoModelForSequenceClassification,
        "embed": transformers.AutoModel,
    }
    try:
        model, loaded = classes[head["kind"]].from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=None if request["trust"] else True,
            attn_implementation="eager",
            dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # it, and what reads the weights, raise anything
        raise Refused(f"transformers can't load this folder: {_innermost(error)}", hint=_hint(error)) from error
    _check_weights(loaded, head["kind"])
    model.eval()
    taken = inspect.signature(model.forward).parameters
    names = ["pixel_values"] if head["kind"] == "picture" else [name for name in _TEXT if name in taken]
    if not head.get("segments", True):
        names = [name for name in names if name != "token_type_ids"]
    return _Network(model, names, head)


def _check_weights(loaded: Any, kind: str) -> None:
    """Raise Refused where the file lacks weights: transformers makes them up, and answers with chance."""
    missing = sorted(map(str, loaded["missing_keys"]))
    unused = ("position_ids", "pooler") if kind == "embed" else ("position_ids",)  # a vector is made without the pooler
    missing = [name for name in missing if not any(part in name for part in unused)]
    wrong = sorted(str(one[0] if isinstance(one, tuple) else one) for one in loaded.get("mismatched_keys", ()))
    for names, what in ((missing, "lack"), (wrong, "have another shape of")):
        if names:
            raise Refused(
                f"the weights {what} {len(names)} tensors of this model, first {names[0]}: it would answer by chance",
                hint="was the head trained? name the folder of the fine-tuned model, saved with save_pretrained",
            )


def _tokenizer(folder: str, names: "list[str]") -> "dict[str, Any]":
    """Say how transformers itself would tokenize; raises Refused where tokenizer.json alone does otherwise."""
    import tokenizers

    try:
        own = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        plain = tokenizers.Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    except Exception as error:  # the libraries raise anything
        raise Refused(f"the tokenizer can't be loaded: {_innermost(error)}", hint=_SAVE) from error
    plain.no_padding()
    plain.no_truncation()
    for text in _PROBES:
        if own(text)["input_ids"] != plain.encode(text).ids:
            raise Refused(
                f"tokenizer.json alone makes other tokens of {text!r} than transformers does with its settings",
                hint=_SAVE,
            )
    limit = own.model_max_length
    return {
        "pad_token": own.pad_token,
        "pad_side": own.padding_side,
        "truncate_side": own.truncation_side,
        "max_tokens": int(limit) if limit and limit < 1_000_000 else 0,
        "segments": "token_type_ids" in own.model_input_names and "token_type_ids" in names,
    }


_SAVE = "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) of transformers writes it anew"


def _hint(error: BaseException) -> str:
    if "safetensors" in str(error):
        return "save it with save_pretrained(FOLDER), which writes model.safetensors"
    return "it is opened with the transformers of the toolchain, and without any code of the model's own"


def _innermost(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:3])[:400]}"
