"""Backbones of a few thousand parameters, one of each supported architecture, written as sentence-transformers folders."""

from __future__ import annotations

from pathlib import Path

WORDS = [
    "the",
    "a",
    "of",
    "in",
    "on",
    "with",
    "and",
    "fever",
    "cough",
    "acute",
    "chronic",
    "heart",
    "failure",
    "lung",
    "left",
    "right",
    "arm",
    "leg",
    "broken",
    "bone",
    "pain",
    "head",
    "skin",
    "rash",
    "child",
    "adult",
    "man",
    "woman",
    "plays",
    "runs",
    "eats",
    "guitar",
    "dog",
    "cat",
    "red",
    "blue",
    "big",
    "small",
    "is",
    "not",
    "was",
    "has",
    "no",
]
SENTENCES = [
    f"{WORDS[i % len(WORDS)]} {WORDS[(3 * i + 7) % len(WORDS)]} {WORDS[(5 * i + 2) % len(WORDS)]}" for i in range(120)
]


def backbone(
    folder: Path, kind: str = "bert", *, layers: int = 3, hidden: int = 32, pooling: str = "mean", seed: int = 0
) -> str:
    """Write one with random weights; returns its path."""
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    torch.manual_seed(seed)
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {token: i for i, token in enumerate([*specials, *WORDS])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), specials, strict=True))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, model_max_length=24, **names)
    common = {
        "vocab_size": len(vocabulary),
        "hidden_size": hidden,
        "num_attention_heads": 4,
        "num_hidden_layers": layers,
        "intermediate_size": 2 * hidden,
        "max_position_embeddings": 40,
        "pad_token_id": 0,
        "initializer_range": 0.2,
    }
    config = {
        "bert": transformers.BertConfig,
        "roberta": transformers.RobertaConfig,
        "xlm-roberta": transformers.XLMRobertaConfig,
        "mpnet": transformers.MPNetConfig,
        "modernbert": transformers.ModernBertConfig,
        "distilbert": transformers.DistilBertConfig,
        "gpt2": transformers.GPT2Config,
    }[kind]
    if kind == "distilbert":
        common = {
            "vocab_size": len(vocabulary),
            "dim": hidden,
            "n_heads": 4,
            "n_layers": layers,
            "hidden_dim": 64,
            "initializer_range": 0.2,
        }
    if kind == "gpt2":
        common = {"vocab_size": len(vocabulary), "n_embd": hidden, "n_head": 4, "n_layer": layers}
    if kind == "modernbert":
        common |= {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    model = transformers.AutoModel.from_config(config(**common))
    plain = folder.parent / f"{folder.name}-plain"
    model.save_pretrained(plain)
    tokenizer.save_pretrained(plain)
    body = Transformer(str(plain), max_seq_length=24)
    SentenceTransformer(
        modules=[body, Pooling(hidden, pooling_mode=pooling), Normalize()], device="cpu"
    ).save_pretrained(str(folder), create_model_card=False)
    return str(folder)
