"""Make tiny models of Hugging Face's own classes, trained for seconds on real data. Runs in the toolchain."""

import json
import os
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="0")

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers


def text(request: "dict[str, Any]", tell: Any) -> "dict[str, Any]":
    """Train a WordPiece tokenizer and a BERT of two layers on labelled texts; saved as transformers saves them."""
    torch.manual_seed(0)
    folder, texts, labels = Path(request["folder"]), request["texts"], torch.tensor(request["labels"])
    tokenizer = _word_pieces(texts)
    names = request["names"]
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
        max_position_embeddings=64, num_labels=len(names), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        id2label=dict(enumerate(names)), label2id={name: place for place, name in enumerate(names)},
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config)
    given = tokenizer(texts, padding=True, truncation=True, max_length=64, return_tensors="pt")
    _train(model, dict(given), labels, steps=request["steps"], rate=2e-3)
    _save(model, folder)
    tokenizer.save_pretrained(folder)
    return {}


def embedder(request: "dict[str, Any]", tell: Any) -> "dict[str, Any]":
    """Write the encoder of a text classifier as sentence-transformers does: with its pooling, and normalised."""
    source, folder = request["source"], Path(request["folder"])
    model = transformers.BertModel.from_pretrained(source, add_pooling_layer=False)
    _save(model, folder)
    transformers.AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    modules = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    listed = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (kind, path) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 32, "do_lower_case": False}))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 64, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return {}


def pictures(request: "dict[str, Any]", tell: Any) -> "dict[str, Any]":
    """Train a ViT of two layers on pictures of 32 x 32, normalised as its preprocessor_config.json says."""
    torch.manual_seed(0)
    folder, names = Path(request["folder"]), request["names"]
    config = transformers.ViTConfig(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, image_size=32, patch_size=8,
        initializer_range=0.1, num_labels=len(names), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        id2label=dict(enumerate(names)), label2id={name: place for place, name in enumerate(names)},
    )  # fmt: skip
    model = transformers.ViTForImageClassification(config)
    values = torch.from_numpy(np.asarray(request["pictures"], np.float32) / 255.0 - 0.5) / 0.5
    _train(model, {"pixel_values": values}, torch.tensor(request["labels"]), steps=request["steps"], rate=2e-3)
    _save(model, folder)
    settings = {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": 32, "width": 32},
        "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return {}


def tokenize(request: "dict[str, Any]", tell: Any) -> "dict[str, Any]":
    """Give the tokens that transformers itself makes of texts, or of pairs."""
    own = transformers.AutoTokenizer.from_pretrained(request["folder"], local_files_only=True)
    pairs = [request["pairs"]] if request.get("pairs") else []
    given = own(request["texts"], *pairs, truncation=True, max_length=request["max_length"])
    return {name: given[name] for name in ("input_ids", "token_type_ids", "attention_mask")}


def answer(request: "dict[str, Any]", tell: Any) -> "dict[str, Any]":
    """Give the scores that transformers itself makes of texts, each by itself."""
    own = transformers.AutoTokenizer.from_pretrained(request["folder"], local_files_only=True)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(request["folder"]).eval()
    scores = []
    with torch.no_grad():
        for text_ in request["texts"]:
            given = own(text_, truncation=True, return_tensors="pt")
            scores.append(model(**given).logits.softmax(-1)[0].tolist())
    return {"scores": scores}


def _word_pieces(texts: "list[str]") -> Any:  # transformers' tokenizer
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=1500, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )  # fmt: skip
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=64, model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip


def _train(model: Any, given: "dict[str, Any]", labels: Any, *, steps: int, rate: float) -> None:
    torch.set_num_threads(1)  # threads wait for each other longer than such small products take
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    order = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(steps):
        rows = torch.randint(0, len(labels), (32,), generator=order)
        loss = model(**{name: values[rows] for name, values in given.items()}, labels=labels[rows]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()


def _save(model: Any, folder: Path) -> None:
    model.save_pretrained(folder, safe_serialization=True)
