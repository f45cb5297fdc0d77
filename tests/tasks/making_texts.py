"""Make a tokenizer, and small real models of tokens."""

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from ferryman.core.signature import Signature, TensorSpec
from tests.bundle.making import save
from tests.sources.docstrings import labelled

WIDTH = 2


def make_tokenizer(path: Path, *, has_marks: bool = True) -> Any:  # tokenizers.Tokenizer
    """Write a WordPiece tokenizer trained on docstrings, with BERT's marks around a text or without any."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    texts = [text for text, _ in labelled()]
    tokenizer.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=600, special_tokens=special))
    if has_marks:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
            special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
        )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))
    return tokenizer


def make_mean_model(folder: Path) -> Path:
    """Write the mean of the tokens' vectors, padding left out: int64 [batch, tokens] twice -> float32 [batch, 2]."""
    table = np.random.default_rng(0).normal(size=(600, WIDTH)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["vectors"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["weights"]),
        helper.make_node("Mul", ["vectors", "weights"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "tokens"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "tokens"], ["count"], keepdims=1),
        helper.make_node("Div", ["sum", "count"], ["logits"]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", WIDTH])]
    return save(folder / "mean.onnx", nodes, inputs, outputs, table=table, last=np.array([-1]), tokens=np.array([1]))


def text_signature(*, tokens: int | str = "tokens", segments: bool = False, dtype: str = "int64") -> Signature:
    """Give the signature of a model of tokens."""
    names = ("input_ids", "attention_mask", *(("token_type_ids",) if segments else ()))
    return Signature(
        inputs=tuple(TensorSpec(name=name, dtype=dtype, shape=("batch", tokens)) for name in names),
        outputs=(TensorSpec(name="logits", dtype="float32", shape=("batch", WIDTH)),),
    )
