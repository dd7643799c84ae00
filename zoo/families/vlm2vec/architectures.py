"""Supported vision-language architectures: how each of them writes an image as tokens and prepares its pixels.

Every architecture is an entry of `ARCHITECTURES`; other model types are refused. Images always go through the image processors
that need only Pillow, so that vectors do not depend on whether torchvision is installed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from zoo.core.errors import ZooError
from zoo.core.suggest import suggest

ProcessorOutput = Mapping[str, Any]
"""The output of an image processor: `pixel_values` and what else its model needs."""
Settings = Mapping[str, Any]
"""The settings of an image processor, as in preprocessor_config.json."""


@dataclass(frozen=True)
class Architecture:
    """One kind of vision-language model.

    Attributes:
        image_processor: class of the image processor if the model folder names none.
        processor: class of the processor with which transformers opens the model folder.
        language_model: path of the language model inside the model.
        image_placeholder: text that stands for an image in the chat template, before the processor expands it.
        image_token: token whose states the model replaces by the features of the image.
        has_nested_images: whether the image processor takes a list of images for each input, not one flat list.
        needs_token_types: whether the model needs `mm_token_type_ids`, which mark the tokens of images.
        needs_torchvision: whether the processor of transformers needs torchvision.
        write_image_tokens: (processor output, index of the image, model config, image processor) → the image's tokens as text.
        compute_size_settings: (side in pixels, settings) → the settings that set the resolution to that side.
        compute_processor_config: (model config, image processor) → entries of processor_config.json for transformers.
    """

    image_processor: str
    processor: str
    language_model: str
    image_placeholder: str
    image_token: str
    write_image_tokens: Callable[[ProcessorOutput, int, Any, Any], str]
    compute_size_settings: Callable[[int, Settings], dict[str, Any]]
    has_nested_images: bool = False
    needs_token_types: bool = False
    needs_torchvision: bool = False
    compute_processor_config: Callable[[Any, Any], dict[str, Any]] = field(default=lambda config, image_processor: {})


# -- the tokens of an image ---------------------------------------------------------------------------------------------


def _write_tile_tokens(output: ProcessorOutput, index: int, config: Any, image_processor: Any) -> str:
    """Idefics3 and SmolVLM: rows of tiles, if the image was split into tiles, and then the whole image."""
    rows, columns = (list(chain.from_iterable(output[name]))[index] for name in ("rows", "cols"))
    image = "<image>" * _count_tile_tokens(config)
    grid = ""
    for row in range(1, rows + 1):
        grid += "".join(f"<fake_token_around_image><row_{row}_col_{column}>{image}" for column in range(1, columns + 1))
        grid += "\n"
    separator = "\n" if rows else ""
    return f"{grid}{separator}<fake_token_around_image><global-img>{image}<fake_token_around_image>"


def _count_tile_tokens(config: Any) -> int:
    vision = config.vision_config
    return int((vision.image_size // vision.patch_size) ** 2 / config.scale_factor**2)


def _write_patch_tokens(output: ProcessorOutput, index: int, config: Any, image_processor: Any) -> str:
    """LLaVA: one token for each patch."""
    height, width = output["pixel_values"][index].shape[-2:]
    side = config.vision_config.patch_size
    patches = int(height // side) * int(width // side)
    return "<image>" * (patches + _count_extra_tokens(config))


def _count_extra_tokens(config: Any) -> int:
    """Tokens of an image that are not patches: the class token, if the tower has one, minus the token that is left out."""
    leaves_one_out = config.vision_feature_select_strategy == "default"
    return _count_class_tokens(config) - int(leaves_one_out)


def _count_class_tokens(config: Any) -> int:
    return int(config.vision_config.model_type == "clip_vision_model")


def _write_any_resolution_tokens(output: ProcessorOutput, index: int, config: Any, image_processor: Any) -> str:
    """LLaVA-NeXT: the tiles without their padding, a newline token for each row of patches, and the whole image.

    The model removes the padding in the same way, so the numbers of tokens must agree.
    """
    from transformers.image_processing_utils import select_best_resolution

    height, width = (int(size) for size in output["image_sizes"][index])
    tile = output["pixel_values"][index].shape[-1]
    patches_per_side = tile // config.vision_config.patch_size
    resolution = select_best_resolution((height, width), image_processor.image_grid_pinpoints)
    rows, columns = (patches_per_side * (side // tile) for side in resolution)
    if width / height > columns / rows:
        rows -= 2 * ((rows - int(round(height * (columns / width), 7))) // 2)
    else:
        columns -= 2 * ((columns - int(round(width * (rows / height), 7))) // 2)
    count = rows * columns + rows + patches_per_side * patches_per_side + _count_extra_tokens(config)
    return "<image>" * int(count)


def _write_grid_tokens(output: ProcessorOutput, index: int, config: Any, image_processor: Any) -> str:
    """Qwen: one token for each square of `merge_size` × `merge_size` patches."""
    count = int(output["image_grid_thw"][index].prod()) // image_processor.merge_size**2
    return f"<|vision_start|>{'<|image_pad|>' * count}<|vision_end|>"


# -- the resolution -----------------------------------------------------------------------------------------------------


def _set_longest_edge(side: int, settings: Settings) -> dict[str, Any]:
    """Idefics3 and SmolVLM: an image larger than one tile is split into tiles."""
    tile = (settings.get("max_image_size") or {}).get("longest_edge", side)
    return {"size": {"longest_edge": side}, "do_image_splitting": side > tile}


def _keep_fixed_size(side: int, settings: Settings) -> dict[str, Any]:
    """LLaVA: the resolution cannot be changed. Raise ZooError for any other side."""
    fixed_side = (settings.get("crop_size") or settings.get("size") or {}).get("height", side)
    if side != fixed_side:
        raise ZooError(
            f"size: this architecture reads images of {fixed_side} × {fixed_side} pixels only, not {side}; "
            "leave `size` out"
        )
    return {}


def _select_resolutions(side: int, settings: Settings) -> dict[str, Any]:
    """LLaVA-NeXT: the resolutions of the model that fit into `side`. Raise ZooError if none does."""
    resolutions = settings.get("image_grid_pinpoints") or []
    small_resolutions = [resolution for resolution in resolutions if max(resolution) <= side]
    if not small_resolutions:
        raise ZooError(
            f"size: every resolution of this architecture is larger than {side} pixels; give a larger `size`"
        )
    return {"image_grid_pinpoints": small_resolutions}


def _set_pixel_range(side: int, settings: Settings) -> dict[str, Any]:
    """Qwen: the edges in its settings are numbers of pixels, not lengths."""
    min_pixels = min((settings.get("size") or {}).get("shortest_edge") or 56 * 56, side * side)
    return {"size": {"shortest_edge": min_pixels, "longest_edge": side * side}}


# -- what transformers needs in processor_config.json -------------------------------------------------------------------


def _compute_llava_config(config: Any, image_processor: Any) -> dict[str, Any]:
    return {
        "patch_size": config.vision_config.patch_size,
        "vision_feature_select_strategy": config.vision_feature_select_strategy,
        "num_additional_image_tokens": _count_class_tokens(config),
        "image_token": "<image>",
    }


def _compute_idefics_config(config: Any, image_processor: Any) -> dict[str, Any]:
    return {"image_seq_len": _count_tile_tokens(config)}


# -- the registry -------------------------------------------------------------------------------------------------------

_IDEFICS: dict[str, Any] = {
    "language_model": "text_model",
    "image_placeholder": "<image>",
    "image_token": "<image>",
    "write_image_tokens": _write_tile_tokens,
    "compute_size_settings": _set_longest_edge,
    "has_nested_images": True,
    "compute_processor_config": _compute_idefics_config,
}
_LLAVA: dict[str, Any] = {
    "language_model": "language_model",
    "image_placeholder": "<image>",
    "image_token": "<image>",
    "compute_processor_config": _compute_llava_config,
}
_QWEN: dict[str, Any] = {
    "language_model": "language_model",
    "image_placeholder": "<|vision_start|><|image_pad|><|vision_end|>",
    "image_token": "<|image_pad|>",
    "image_processor": "Qwen2VLImageProcessor",
    "write_image_tokens": _write_grid_tokens,
    "compute_size_settings": _set_pixel_range,
    "needs_token_types": True,
    "needs_torchvision": True,
}
IMAGE_PROCESSORS = ("Idefics3", "SmolVLM", "Llava", "LlavaNext", "CLIP", "Siglip", "Qwen2VL")
"""Image processors of which transformers has a version that needs only Pillow."""
ARCHITECTURES: dict[str, Architecture] = {
    "idefics3": Architecture(
        image_processor="Idefics3ImageProcessor",
        processor="Idefics3Processor",
        **_IDEFICS,
    ),
    "smolvlm": Architecture(
        image_processor="SmolVLMImageProcessor",
        processor="SmolVLMProcessor",
        needs_torchvision=True,
        **_IDEFICS,
    ),
    "llava": Architecture(
        image_processor="LlavaImageProcessor",
        processor="LlavaProcessor",
        write_image_tokens=_write_patch_tokens,
        compute_size_settings=_keep_fixed_size,
        **_LLAVA,
    ),
    "llava_next": Architecture(
        image_processor="LlavaNextImageProcessor",
        processor="LlavaNextProcessor",
        write_image_tokens=_write_any_resolution_tokens,
        compute_size_settings=_select_resolutions,
        **_LLAVA,
    ),
    "qwen2_vl": Architecture(processor="Qwen2VLProcessor", **_QWEN),
    "qwen2_5_vl": Architecture(processor="Qwen2_5_VLProcessor", **_QWEN),
    "qwen3_vl": Architecture(processor="Qwen3VLProcessor", **_QWEN),
}


def get_architecture(model_type: str) -> Architecture:
    """Return the architecture of a `model_type` of config.json. Raise ZooError if it is not supported."""
    if model_type not in ARCHITECTURES:
        raise ZooError(
            f"the architecture {model_type[:40]!r} is not supported{suggest(model_type, ARCHITECTURES, listing='')}; "
            f"choose a model of one of these: {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[model_type]


def find_pillow_processor(name: str) -> str:
    """Return the image processor class that needs only Pillow, given the name of any of its versions.

    For example, "SiglipImageProcessorFast" gives "SiglipImageProcessorPil". Raise ZooError if there is no such class.
    """
    kind = name.removesuffix("Fast").removesuffix("Pil").removesuffix("ImageProcessor")
    if kind not in IMAGE_PROCESSORS:
        raise ZooError(
            f"the image processor {name[:40]!r} is not supported, because it has no version that needs only Pillow; "
            f"choose a model with one of these: {', '.join(IMAGE_PROCESSORS)}"
        )
    return f"{kind}ImageProcessorPil"


def read_settings(path: Path) -> dict[str, Any]:
    """A JSON object of a model folder; empty if there is no such file. Raises ZooError for a file that is not one."""
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ZooError(f"{path}: cannot be read as JSON: {str(error)[:120]}") from None
    if not isinstance(settings, dict):
        raise ZooError(f"{path}: is not a JSON object")
    return settings
