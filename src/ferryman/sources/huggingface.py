"""Open folders of Hugging Face's transformers, and import them to ONNX; both in a toolchain of their own."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ferryman.core.artifact import Artifact, digest_path
from ferryman.core.deployment import ModelSection
from ferryman.core.errors import SourceError
from ferryman.core.isolated import Refusal, isolated
from ferryman.core.signature import Signature
from ferryman.core.step import StepContext
from ferryman.sources._huggingface_folder import HubFolder, is_hub_folder, read_folder
from ferryman.sources._huggingface_toolchain import PROGRAM
from ferryman.sources._onnx_graph import write_model
from ferryman.sources._torch_export import tidy


class HuggingFaceSource:
    """Open a folder of config.json, safetensors and tokenizer.json; no network, none of the model's own code."""

    name: ClassVar[str] = "huggingface"
    suffixes: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    toolchain: ClassVar[str] = "huggingface"

    def recognises(self, path: Path) -> bool:
        """Tell whether this is a folder with a config.json that names a model's type, beside weights."""
        return is_hub_folder(path)

    def open(self, path: Path, model: ModelSection, workspace: Path) -> Artifact:
        """Load the model once, which proves that every weight is there.

        The artifact's `loader` holds how its vector is made ("head"), and `[task]` as the folder says it ("told").
        """
        folder = read_folder(path)
        folder.check(trust=model.trust)
        head = folder.head()
        if head["kind"] != "picture" and not (folder.inner / "tokenizer.json").is_file():
            old = folder.old_tokenizer
            raise SourceError(
                f"{folder.inner} has no tokenizer.json, "
                + (f"only the older form of a tokenizer ({old})" if old else "nor any other tokenizer"),
                hint="AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) of transformers writes it",
            )
        asked = {"folder": str(folder.inner.resolve()), "head": head, "trust": model.trust}
        try:
            with isolated(self.toolchain, PROGRAM) as worker:
                found = worker.ask("describe", **asked)
        except Refusal as error:
            raise SourceError(f"{path}: {error}", hint=error.hint) from None
        tokenizer = found["tokenizer"]
        if head["kind"] != "picture":
            head["segments"] = tokenizer["segments"]
        signature = _signature(found["signature"], head)
        told = _picture_task(folder) if head["kind"] == "picture" else _text_task(folder, head, tokenizer)
        if head["kind"] != "picture":
            head["most"] = told["spec"]["max_tokens"]
        loader = {"head": head, "trust": model.trust, "inner": os.path.relpath(folder.inner, path), "told": told}
        return Artifact(path, self.name, signature, digest_path(path), loader=loader)


@dataclass(frozen=True)
class HuggingFaceToOnnx:
    """Import a model of transformers to ONNX, float32, with batch and length of texts left free."""

    name: ClassVar[str] = "huggingface-to-onnx"
    accepts: ClassVar[frozenset[str]] = frozenset({"huggingface"})
    produces: ClassVar[str] = "onnx"
    precision: ClassVar[str | None] = None
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    toolchain: ClassVar[str] = "huggingface"
    imports: ClassVar[bool] = True

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Export through torch.export; raises StepError that names what torch can't export."""
        import onnx

        context.workspace.mkdir(parents=True, exist_ok=True)
        partial, path = context.workspace / "model.partial", context.workspace / "model.onnx"
        loader = source.loader
        asked = {"folder": str((source.path / loader["inner"]).resolve()), "target": str(partial.resolve())}
        with isolated(self.toolchain, PROGRAM, limits=context.limits, progress=context.progress) as worker:
            worker.ask("export", **asked, head=loader["head"], trust=loader["trust"])
        model = tidy(onnx.load(partial), source.signature)
        partial.unlink()
        digest = write_model(model, path)
        return Artifact(path, "onnx", source.signature, digest, source.precision, (*source.made_by, self.name))


def _signature(raw: dict[str, Any], head: dict[str, Any]) -> Signature:  # JSON
    """Give the signature; the tensor that tells texts of a pair apart only where the tokenizer gives it."""
    if not head.get("segments", True):
        raw = {**raw, "inputs": [one for one in raw["inputs"] if one["name"] != "token_type_ids"]}
    return Signature.model_validate(raw)


def _text_task(folder: HubFolder, head: dict[str, Any], tokenizer: dict[str, Any]) -> dict[str, Any]:  # TOML, words
    is_embed = head["kind"] == "embed"
    place = os.path.relpath(folder.inner / "tokenizer.json", folder.path)
    spec: dict[str, Any] = {"kind": "embed" if is_embed else "text-classify", "tokenizer": place}
    reasons = ["the folder's config.json, and its tokenizer as transformers itself reads it, say so"]
    questions = []
    if not is_embed:
        spec["activation"] = _activation(folder)
        if len(_counted(folder)) == 1 and folder.config.get("problem_type") is None:
            questions.append(
                "Is the model's one number a score of yes or no? Where it is any number: activation = 'none'."
            )
        if folder.labels:
            spec["labels"] = folder.labels
        else:
            questions.append("What are the classes called? Set labels = ['...'], in the order of the model's numbers.")
    elif folder.modules:
        reasons.append(f"one vector a text by {head['pooling']} pooling, as modules.json says")
    else:
        reasons.append("no modules.json says how one vector is made: the mean over tokens, of length 1")
        questions.append(
            "Was the model trained to embed by the mean? Else add 1_Pooling as sentence-transformers does."
        )
    if is_embed and folder.prompts:
        shown = ", ".join(f"{name} = '{words:.40}'" for name, words in list(folder.prompts.items())[:5])
        questions.append(
            f"Do your texts begin with the words that the model was trained with ({shown})? Nothing adds them."
        )
    if beyond := folder.foreign_token:
        token, number, count = beyond
        questions.append(
            f"Is tokenizer.json this model's? Its token '{token:.40}' is number {number}, and the model knows {count} "
            "(vocab_size in config.json): a text with it can't be answered."
        )
    spec["max_tokens"], why = _longest(folder, tokenizer)
    reasons.append(why)
    if tokenizer["pad_token"]:
        spec["pad_token"] = tokenizer["pad_token"]
    spec |= {key: tokenizer[key] for key in ("pad_side", "truncate_side") if tokenizer[key] != "right"}
    return {"spec": spec, "reasons": reasons, "questions": questions}


def _activation(folder: HubFolder) -> str:
    problem = folder.config.get("problem_type")
    if problem == "regression":
        return "none"
    return "sigmoid" if problem == "multi_label_classification" or len(_counted(folder)) == 1 else "softmax"


def _picture_task(folder: HubFolder) -> dict[str, Any]:  # TOML, words
    spec: dict[str, Any] = {"kind": "classify"}
    if folder.labels:
        spec["labels"] = folder.labels
    spec |= {"input": folder.image_input(), "activation": "softmax"}
    if len(_counted(folder)) < 5:
        spec["top_k"] = max(len(_counted(folder)), 1)
    is_said = bool(folder.settings("preprocessor_config.json"))
    questions = [] if is_said else ["There is no preprocessor_config.json: how were the pictures normalised?"]
    return {"spec": spec, "reasons": ["config.json and preprocessor_config.json say so"], "questions": questions}


def _counted(folder: HubFolder) -> list[object]:
    raw = folder.config.get("id2label")
    return list(raw) if isinstance(raw, dict) else [0, 1]


def _longest(folder: HubFolder, tokenizer: dict[str, Any]) -> tuple[int, str]:
    """Give the model's most tokens and who says so: the least of what the files name."""
    said = {"tokenizer_config.json": tokenizer["max_tokens"]}
    own = folder.settings("sentence_bert_config.json").get("max_seq_length")
    said["sentence_bert_config.json"] = own if isinstance(own, int) else 0
    positions = folder.config.get("max_position_embeddings")
    if isinstance(positions, int):
        # RoBERTa and its kin number positions from after the padding's.
        offset = int(folder.config.get("pad_token_id") or 0) + 1
        is_shifted = "roberta" in str(folder.config.get("model_type")) or folder.config.get("model_type") == "camembert"
        said["config.json"] = positions - offset if is_shifted else positions
    known = {name: most for name, most in said.items() if most > 2}
    if not known:
        return 512, "nothing says how long a text may be: 512 tokens"
    name = min(known, key=lambda one: known[one])
    return known[name], f"at most {known[name]} tokens, as {name} says"
