"""A small vision-language model from scratch: an untrained Idefics3 and a byte-level BPE tokenizer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from zoo.families.vlm2vec.spec import VLMSpec
from zoo.families.vlm2vec.vlm import VLM

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<pad>",
    "<fake_token_around_image>",
    "<image>",
    "<end_of_utterance>",
    "<global-img>",
)
MAX_POSITIONS = 2048


def build(spec: VLMSpec) -> VLM:
    """Build the untrained model. Its weights come from torch's random generator.

    Every byte is a token of its tokenizer, until `train_tokenizer` makes a better one.
    """
    auto_model: Any = transformers.AutoModel
    attention = {"attn_implementation": spec.attention} if spec.attention else {}
    model = auto_model.from_config(_make_config(spec), **attention)
    image_processor = transformers.Idefics3ImageProcessorPil(
        size={"longest_edge": spec.side}, max_image_size={"longest_edge": spec.side}, do_image_splitting=False
    )
    return VLM(
        model,
        train_tokenizer([], spec.vocab_size),
        image_processor,
        max_length=spec.max_length or MAX_POSITIONS // 2,
    )


def _make_config(spec: VLMSpec) -> Any:
    make_config: Any = transformers.Idefics3Config
    # The usual 0.02 suits a width of 2,500. A narrow model would hardly begin to learn with it.
    initializer_range = spec.hidden**-0.5
    return make_config(
        vision_config={
            "hidden_size": spec.hidden,
            "intermediate_size": 4 * spec.hidden,
            "num_hidden_layers": spec.vision_layers,
            "num_attention_heads": spec.heads,
            "image_size": spec.side,
            "patch_size": spec.patch,
            "initializer_range": initializer_range,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": spec.vocab_size,
            "hidden_size": spec.hidden,
            "intermediate_size": 4 * spec.hidden,
            "num_hidden_layers": spec.layers,
            "num_attention_heads": spec.heads,
            "num_key_value_heads": spec.heads,
            "max_position_embeddings": MAX_POSITIONS,
            "initializer_range": initializer_range,
            "pad_token_id": SPECIAL_TOKENS.index("<pad>"),
            "bos_token_id": 0,
            "eos_token_id": 0,
        },
        scale_factor=spec.merge,
        image_token_id=SPECIAL_TOKENS.index("<image>"),
        pad_token_id=SPECIAL_TOKENS.index("<pad>"),
    )


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Any:
    """Train a byte-level BPE tokenizer with at most `vocab_size` tokens. Equal texts in the same order give equal tokenizers."""
    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast_tokenizer: Any = transformers.PreTrainedTokenizerFast
    return fast_tokenizer(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL_TOKENS[2:]),
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )
