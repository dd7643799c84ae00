"""Vision-language models of a few tens of thousands of parameters, one of each supported architecture, as pretrained folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SPECIAL = (
    *("<|endoftext|>", "<pad>", "<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>"),
    *("<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>"),
    *(f"<row_{r}_col_{c}>" for r in (1, 2) for c in (1, 2)),
)
KINDS = ("idefics3", "smolvlm", "llava", "llava_next", "qwen2_vl", "qwen2_5_vl", "qwen3_vl")


def _text(kind: str = "llama", **more: Any) -> dict[str, Any]:
    sizes = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 512, "pad_token_id": 1}
    return {
        "model_type": kind,
        **sizes,
        **heads,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "initializer_range": 0.2,
        **more,
    }


def _tower(layers: int = 1, **more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": layers, "num_attention_heads": 2}
    return {**sizes, "image_size": 28, "patch_size": 14, "initializer_range": 0.2, **more}


def _qwen(kind: str, rope: dict[str, Any], **vision: Any) -> dict[str, Any]:
    patches = {"depth": 1, "num_heads": 2, "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2}
    names = ("vision_start_token_id", "image_token_id", "vision_end_token_id", "video_token_id")
    return {
        "text_config": _text(f"{kind}_text", rope_scaling={"mrope_section": [2, 3, 3], **rope}),
        "vision_config": {**patches, "hidden_size": 32, **vision},
        **{name: 6 + i for i, name in enumerate(names)},
    }


def _config(kind: str) -> dict[str, Any]:
    wide = {"intermediate_size": 48, "out_hidden_size": 32}
    clip = _tower(2, model_type="clip_vision_model")
    grid = [[28, 56], [56, 28], [56, 56]]
    tiles = {
        "vision_config": _tower(),
        "text_config": _text(),
        "scale_factor": 2,
        "image_token_id": 3,
        "pad_token_id": 1,
    }
    mrope, interleaved = {"type": "mrope"}, {"rope_type": "default", "mrope_interleaved": True}
    places = {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    llava = {"vision_config": clip, "text_config": _text(), "image_token_index": 3}
    return {
        "idefics3": tiles,
        "smolvlm": tiles,
        "llava": llava,
        "llava_next": {**llava, "image_grid_pinpoints": grid},
        "qwen2_vl": _qwen("qwen2_vl", mrope, embed_dim=32, mlp_ratio=2),
        "qwen2_5_vl": _qwen("qwen2_5_vl", mrope, window_size=56, fullatt_block_indexes=[0], **wide),
        "qwen3_vl": _qwen("qwen3_vl", interleaved, **wide, **places),
    }[kind]


def _processor(kind: str) -> Any:
    import transformers

    tiles = {"size": {"longest_edge": 56}, "max_image_size": {"longest_edge": 28}, "do_image_splitting": True}
    square = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}
    family = "Qwen2VL" if kind.startswith("qwen") else None
    name = family or {"idefics3": "Idefics3", "smolvlm": "SmolVLM", "llava": "CLIP", "llava_next": "LlavaNext"}[kind]
    told: dict[str, Any] = {"min_pixels": 28 * 28, "max_pixels": 56 * 56} if family else {}
    told |= tiles if kind in ("idefics3", "smolvlm") else square if kind in ("llava", "llava_next") else {}
    told |= {"image_grid_pinpoints": _config(kind)["image_grid_pinpoints"]} if kind == "llava_next" else {}
    return getattr(transformers, f"{name}ImageProcessorPil")(**told)


def tokenizer() -> Any:
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(["a red square", "which colour is it"], trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        eos_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL[2:]),
        clean_up_tokenization_spaces=False,
    )


def backbone(folder: Path, kind: str, seed: int = 0) -> str:
    """Write one with random weights; returns its path."""
    import torch
    import transformers

    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(kind, **_config(kind))
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    _processor(kind).save_pretrained(folder)
    return str(folder)
