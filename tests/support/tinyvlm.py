"""Tiny pretrained vision-language models, one for each supported architecture, as folders of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SPECIAL_TOKENS = (
    *("<|endoftext|>", "<pad>", "<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>"),
    *("<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>"),
    *(f"<row_{r}_col_{c}>" for r in (1, 2) for c in (1, 2)),
)
KINDS = ("idefics3", "smolvlm", "llava", "llava_next", "qwen2_vl", "qwen2_5_vl", "qwen3_vl")


def _text_config(model_type: str = "llama", **fields: Any) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "vocab_size": 300,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "initializer_range": 0.2,
        **fields,
    }


def _vision_config(layers: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
        "initializer_range": 0.2,
        **fields,
    }


def _qwen_config(kind: str, rope: dict[str, Any], **vision_fields: Any) -> dict[str, Any]:
    patches = {"depth": 1, "num_heads": 2, "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2}
    token_ids = ("vision_start_token_id", "image_token_id", "vision_end_token_id", "video_token_id")
    return {
        "text_config": _text_config(f"{kind}_text", rope_scaling={"mrope_section": [2, 3, 3], **rope}),
        "vision_config": {**patches, "hidden_size": 32, **vision_fields},
        **{name: SPECIAL_TOKENS.index("<|vision_start|>") + i for i, name in enumerate(token_ids)},
    }


def _config(kind: str) -> dict[str, Any]:
    idefics = {
        "vision_config": _vision_config(),
        "text_config": _text_config(),
        "scale_factor": 2,
        "image_token_id": 3,
        "pad_token_id": 1,
    }
    clip = _vision_config(2, model_type="clip_vision_model")
    llava = {"vision_config": clip, "text_config": _text_config(), "image_token_index": 3}
    resolutions = [[28, 56], [56, 28], [56, 56]]
    mrope, interleaved_mrope = {"type": "mrope"}, {"rope_type": "default", "mrope_interleaved": True}
    widths = {"intermediate_size": 48, "out_hidden_size": 32}
    qwen3_vision = {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    return {
        "idefics3": idefics,
        "smolvlm": idefics,
        "llava": llava,
        "llava_next": {**llava, "image_grid_pinpoints": resolutions},
        "qwen2_vl": _qwen_config("qwen2_vl", mrope, embed_dim=32, mlp_ratio=2),
        "qwen2_5_vl": _qwen_config("qwen2_5_vl", mrope, window_size=56, fullatt_block_indexes=[0], **widths),
        "qwen3_vl": _qwen_config("qwen3_vl", interleaved_mrope, **widths, **qwen3_vision),
    }[kind]


def _make_image_processor(kind: str) -> Any:
    import transformers

    tiles = {"size": {"longest_edge": 56}, "max_image_size": {"longest_edge": 28}, "do_image_splitting": True}
    square = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}
    pixels = {"min_pixels": 28 * 28, "max_pixels": 56 * 56}
    resolutions = {"image_grid_pinpoints": _config(kind).get("image_grid_pinpoints")}
    name, settings = {
        "idefics3": ("Idefics3", tiles),
        "smolvlm": ("SmolVLM", tiles),
        "llava": ("CLIP", square),
        "llava_next": ("LlavaNext", square | resolutions),
    }.get(kind, ("Qwen2VL", pixels))
    return getattr(transformers, f"{name}ImageProcessorPil")(**settings)


def make_tokenizer() -> Any:
    """Train a tokenizer with the special tokens of all architectures."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["a red square", "which colour is it"], trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL_TOKENS[2:]),
        clean_up_tokenization_spaces=False,
    )


def write_backbone(folder: Path, kind: str, seed: int = 0) -> str:
    """Write a model with random weights into `folder`, and return the folder's path."""
    import torch
    import transformers

    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(kind, **_config(kind))
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    _make_image_processor(kind).save_pretrained(folder)
    return str(folder)
