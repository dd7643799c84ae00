"""A vision-language model from nothing: an Idefics3 of a few hundred thousand parameters, with a byte-level BPE of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from zoo.core.lazy import lazy
from zoo.families.vlm2vec.spec import VLMSpec
from zoo.families.vlm2vec.vlm import VLM

if TYPE_CHECKING:
    import torch
    import transformers
else:
    torch, transformers = lazy("torch"), lazy("transformers")

SPECIAL = ("<|endoftext|>", "<pad>", "<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>")
POSITIONS = 2048


def build(spec: VLMSpec) -> VLM:
    """The untrained model, its weights drawn from torch's generator; every byte is a token until `learn` is called."""
    make: Any = transformers.Idefics3Config
    spread = spec.hidden**-0.5  # the usual 0.02 is that of a width of 2,500: a narrow model would hardly begin to learn
    config = make(
        vision_config={
            "hidden_size": spec.hidden,
            "intermediate_size": 4 * spec.hidden,
            "num_hidden_layers": spec.vision_layers,
            "num_attention_heads": spec.heads,
            "image_size": spec.side,
            "patch_size": spec.patch,
            "initializer_range": spread,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": spec.vocab_size,
            "hidden_size": spec.hidden,
            "intermediate_size": 4 * spec.hidden,
            "num_hidden_layers": spec.layers,
            "num_attention_heads": spec.heads,
            "num_key_value_heads": spec.heads,
            "max_position_embeddings": POSITIONS,
            "initializer_range": spread,
            "pad_token_id": SPECIAL.index("<pad>"),
            "bos_token_id": 0,
            "eos_token_id": 0,
        },
        scale_factor=spec.merge,
        image_token_id=SPECIAL.index("<image>"),
        pad_token_id=SPECIAL.index("<pad>"),
    )
    kept = {"attn_implementation": spec.attention} if spec.attention else {}
    model = transformers.AutoModel.from_config(config, **kept)
    side = {"longest_edge": spec.side}
    processor = transformers.Idefics3ImageProcessorPil(size=side, max_image_size=side, do_image_splitting=False)
    return VLM(model, learned([], spec.vocab_size), processor, max_length=spec.max_length or POSITIONS // 2)


def learned(texts: Iterable[str], size: int) -> Any:
    """A byte-level BPE of at most `size` tokens, trained on `texts`; the same for the same texts in the same order."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        eos_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL[2:]),
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )
