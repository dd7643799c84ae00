"""Backbones of a few thousand parameters for each supported architecture, as sentence-transformers folders."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

_WORDS = """
    the a of in on with and fever cough acute chronic heart failure lung left right arm leg broken bone pain head skin rash
    child adult man woman plays runs eats guitar dog cat red blue big small is not was has no
"""
WORDS = _WORDS.split()
SENTENCES = [
    f"{WORDS[i % len(WORDS)]} {WORDS[(3 * i + 7) % len(WORDS)]} {WORDS[(5 * i + 2) % len(WORDS)]}" for i in range(120)
]


SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
VOCABULARY = {token: i for i, token in enumerate([*SPECIAL_TOKENS.values(), *WORDS])}
MAX_LENGTH = 24  # tokens


def backbone(
    folder: Path, kind: str = "bert", *, layers: int = 3, hidden: int = 32, pooling: str = "mean", seed: int = 0
) -> str:
    """Write a backbone with random weights and return its path."""
    import torch

    template, random_state = _write_template(kind, layers, hidden, pooling, seed)
    torch.set_rng_state(random_state)
    shutil.copytree(template, folder, copy_function=_replace, dirs_exist_ok=True)
    return str(folder)


def _replace(source: str, target: str) -> None:
    """Copy to a new file. Writing into an old one would change an encoder whose weights are mapped from it."""
    Path(target).unlink(missing_ok=True)
    shutil.copy(source, target)


@functools.cache
def _write_template(kind: str, layers: int, hidden: int, pooling: str, seed: int) -> tuple[Path, Any]:
    """Write a backbone once in a process. Return its folder, and the state of torch's random numbers after it was drawn."""
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer

    parent = Path(tempfile.mkdtemp(prefix="zoo-tiny-"))
    atexit.register(shutil.rmtree, parent, ignore_errors=True)
    torch.manual_seed(seed)
    model = transformers.AutoModel.from_config(make_config(kind, layers, hidden))
    with mock.patch("torch.distributed.is_initialized", return_value=False):  # or only the first process would write
        model.save_pretrained(parent / "plain")
        make_tokenizer().save_pretrained(parent / "plain")
        transformer = Transformer(str(parent / "plain"), max_seq_length=MAX_LENGTH)
        SentenceTransformer(
            modules=[transformer, Pooling(hidden, pooling_mode=pooling), Normalize()], device="cpu"
        ).save_pretrained(str(parent / "backbone"), create_model_card=False)
    return parent / "backbone", torch.get_rng_state()


def make_tokenizer() -> Any:
    """Make a tokenizer with one token per word of WORDS."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=MAX_LENGTH, **SPECIAL_TOKENS
    )


def make_config(kind: str, layers: int, hidden: int) -> Any:
    """Make the transformers config of an architecture."""
    import transformers

    bert_like = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": hidden,
        "num_attention_heads": 4,
        "num_hidden_layers": layers,
        "intermediate_size": 2 * hidden,
        "max_position_embeddings": 40,
        "pad_token_id": 0,
        "initializer_range": 0.2,
    }
    distilbert = {
        "vocab_size": len(VOCABULARY),
        "dim": hidden,
        "n_heads": 4,
        "n_layers": layers,
        "hidden_dim": 64,
        "initializer_range": 0.2,
    }
    modernbert = {**bert_like, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    gpt2 = {"vocab_size": len(VOCABULARY), "n_embd": hidden, "n_head": 4, "n_layer": layers, "n_positions": 40}
    decoder = {
        **bert_like,
        "vocab_size": 64,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    t5 = {"vocab_size": len(VOCABULARY), "d_model": hidden, "d_kv": 8, "num_heads": 4, "num_layers": layers, "d_ff": 64}
    nomic = {**bert_like, "initializer_range": 0.2}
    make, values = {
        "bert": (transformers.BertConfig, bert_like),
        "roberta": (transformers.RobertaConfig, bert_like),
        "xlm-roberta": (transformers.XLMRobertaConfig, bert_like),
        "mpnet": (transformers.MPNetConfig, bert_like),
        "modernbert": (transformers.ModernBertConfig, modernbert),
        "distilbert": (transformers.DistilBertConfig, distilbert),
        "gpt2": (transformers.GPT2Config, gpt2),
        "electra": (transformers.ElectraConfig, {**bert_like, "embedding_size": hidden}),
        "deberta-v2": (
            transformers.DebertaV2Config,
            {**bert_like, "relative_attention": True, "pos_att_type": ["p2c"]},
        ),
        "nomic_bert": (transformers.NomicBertConfig, nomic),
        "t5": (transformers.T5Config, t5),
        "llama": (transformers.LlamaConfig, decoder),
        "mistral": (transformers.MistralConfig, decoder),
        "qwen2": (transformers.Qwen2Config, decoder),
        "qwen3": (transformers.Qwen3Config, decoder),
        "gemma3_text": (transformers.Gemma3TextConfig, {**decoder, "sliding_window": 8}),
        "embedding_gemma": (
            transformers.Gemma3TextConfig,
            {**decoder, "sliding_window": 8, "use_bidirectional_attention": True},
        ),
        "phi3": (transformers.Phi3Config, decoder),
        "smollm3": (transformers.SmolLM3Config, decoder),
    }[kind]
    return make(**values)
