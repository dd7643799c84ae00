"""Vision-language architectures: what stands for an image in the text, and in which form the model wants its pixels.

Each is one entry of `ARCHITECTURES`; any other is refused by name. Images go through the processors that need only Pillow, on
every machine, so that vectors do not depend on whether torchvision is installed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.core.errors import ZooError
from zoo.core.suggest import suggest

Made = Mapping[str, Any]
"""What an image processor puts out."""


@dataclass(frozen=True)
class Architecture:
    """One kind of vision-language model.

    Attributes:
        image_processor: its class where a folder names none.
        processor: the class that stock libraries open beside it.
        language: path of the language model.
        marker: what stands for an image in a text before it is processed, and in the chat template.
        image_token: the token whose states are replaced by the image's.
        nested: whether images are given row by row, and not in one list.
        types: whether the model must be told which tokens are the image's.
        torchvision: whether the stock processor needs it.
        tokens: (processor outputs, number of the image, config, image processor) to the text of that image.
        resized: side in pixels and image processor's settings to the settings that bring images to that resolution.
        told: what a stock processor keeps in processor_config.json, from config and image processor.
    """

    image_processor: str
    processor: str
    language: str
    marker: str
    image_token: str
    tokens: Callable[[Made, int, Any, Any], str]
    resized: Callable[[int, Mapping[str, Any]], dict[str, Any]]
    nested: bool = False
    types: bool = False
    torchvision: bool = False
    told: Callable[[Any, Any], dict[str, Any]] = field(default=lambda config, processor: {})


def _tiles(made: Made, index: int, config: Any, processor: Any) -> str:
    """Rows and columns of tiles, if the image was split, and the whole image."""
    rows, columns = ([n for row in made[name] for n in row][index] for name in ("rows", "cols"))
    image = "<image>" * _per_tile(config)
    grid = "".join(
        "".join(f"<fake_token_around_image><row_{r + 1}_col_{c + 1}>{image}" for c in range(columns)) + "\n"
        for r in range(rows)
    )
    return f"{grid}{chr(10) if rows else ''}<fake_token_around_image><global-img>{image}<fake_token_around_image>"


def _per_tile(config: Any) -> int:
    vision = config.vision_config
    return int((vision.image_size // vision.patch_size) ** 2 / config.scale_factor**2)


def _whole(made: Made, index: int, config: Any, processor: Any) -> str:
    height, width = made["pixel_values"][index].shape[-2:]
    side = config.vision_config.patch_size
    return "<image>" * ((height // side) * (width // side) + _beside(config))


def _beside(config: Any) -> int:
    """Tokens of an image that are no patches: that of the class, where the tower has one and it is not left out."""
    return _class_token(config) - (config.vision_feature_select_strategy == "default")


def _class_token(config: Any) -> int:
    return int(config.vision_config.model_type == "clip_vision_model")


def _any_resolution(made: Made, index: int, config: Any, processor: Any) -> str:
    """As the model itself counts them: the tiles without their padding, a newline a row, and the whole image."""
    from transformers.image_processing_utils import select_best_resolution

    height, width = (int(n) for n in made["image_sizes"][index])
    tile = made["pixel_values"][index].shape[-1]
    patches = tile // config.vision_config.patch_size
    best = select_best_resolution((height, width), processor.image_grid_pinpoints)
    rows, columns = (patches * (side // tile) for side in best)
    if width / height > columns / rows:
        rows -= 2 * ((rows - int(round(height * (columns / width), 7))) // 2)
    else:
        columns -= 2 * ((columns - int(round(width * (rows / height), 7))) // 2)
    return "<image>" * (rows * columns + rows + patches * patches + _beside(config))


def _grid(made: Made, index: int, config: Any, processor: Any) -> str:
    count = int(made["image_grid_thw"][index].prod()) // processor.merge_size**2
    return f"<|vision_start|>{'<|image_pad|>' * count}<|vision_end|>"


def _longest_edge(side: int, told: Mapping[str, Any]) -> dict[str, Any]:
    tile = (told.get("max_image_size") or {}).get("longest_edge", side)
    return {"size": {"longest_edge": side}, "do_image_splitting": side > tile}


def _fixed(side: int, told: Mapping[str, Any]) -> dict[str, Any]:
    own = (told.get("crop_size") or told.get("size") or {}).get("height", side)
    if side != own:
        raise ZooError(f"size: this architecture looks at images of {own} pixels a side, and at no other")
    return {}


def _pinpoints(side: int, told: Mapping[str, Any]) -> dict[str, Any]:
    kept = [pair for pair in told.get("image_grid_pinpoints") or [] if max(pair) <= side]
    if not kept:
        raise ZooError(f"size: the smallest resolution that this architecture has is above {side} pixels")
    return {"image_grid_pinpoints": kept}


def _pixels(side: int, told: Mapping[str, Any]) -> dict[str, Any]:
    least = min((told.get("size") or {}).get("shortest_edge") or 56 * 56, side * side)
    return {"size": {"shortest_edge": least, "longest_edge": side * side}}


def _patched(config: Any, processor: Any) -> dict[str, Any]:
    return {
        "patch_size": config.vision_config.patch_size,
        "vision_feature_select_strategy": config.vision_feature_select_strategy,
        "num_additional_image_tokens": _class_token(config),
        "image_token": "<image>",
    }


def _tiled(config: Any, processor: Any) -> dict[str, Any]:
    return {"image_seq_len": _per_tile(config)}


_IDEFICS: dict[str, Any] = {
    "language": "text_model",
    "marker": "<image>",
    "image_token": "<image>",
    "tokens": _tiles,
    "resized": _longest_edge,
    "nested": True,
    "told": _tiled,
}
_LLAVA: dict[str, Any] = {
    "language": "language_model",
    "marker": "<image>",
    "image_token": "<image>",
    "told": _patched,
}
_QWEN: dict[str, Any] = {
    "language": "language_model",
    "marker": "<|vision_start|><|image_pad|><|vision_end|>",
    "image_token": "<|image_pad|>",
    "image_processor": "Qwen2VLImageProcessor",
    "tokens": _grid,
    "resized": _pixels,
    "types": True,
    "torchvision": True,
}
PROCESSORS = ("Idefics3", "SmolVLM", "Llava", "LlavaNext", "CLIP", "Siglip", "Qwen2VL")
"""Image processors that there is a form of which needs only Pillow."""
ARCHITECTURES: dict[str, Architecture] = {
    "idefics3": Architecture(
        image_processor="Idefics3ImageProcessor",
        processor="Idefics3Processor",
        **_IDEFICS,
    ),
    "smolvlm": Architecture(
        image_processor="SmolVLMImageProcessor",
        processor="SmolVLMProcessor",
        torchvision=True,
        **_IDEFICS,
    ),
    "llava": Architecture(
        image_processor="LlavaImageProcessor",
        processor="LlavaProcessor",
        tokens=_whole,
        resized=_fixed,
        **_LLAVA,
    ),
    "llava_next": Architecture(
        image_processor="LlavaNextImageProcessor",
        processor="LlavaNextProcessor",
        tokens=_any_resolution,
        resized=_pinpoints,
        **_LLAVA,
    ),
    "qwen2_vl": Architecture(processor="Qwen2VLProcessor", **_QWEN),
    "qwen2_5_vl": Architecture(processor="Qwen2_5_VLProcessor", **_QWEN),
    "qwen3_vl": Architecture(processor="Qwen3VLProcessor", **_QWEN),
}


def architecture(model_type: str) -> Architecture:
    """Raises ZooError for one that has no entry."""
    if model_type not in ARCHITECTURES:
        raise ZooError(
            f"the architecture {model_type[:40]!r} has no adapter here{suggest(model_type, ARCHITECTURES)}; "
            f"there are: {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[model_type]


def image_processor(name: str) -> str:
    """The class that needs only Pillow, by the name of any of its forms. Raises ZooError for one that has none."""
    kind = name.removesuffix("Fast").removesuffix("Pil").removesuffix("ImageProcessor")
    if kind not in PROCESSORS:
        raise ZooError(f"the image processor {name[:40]!r} has no form here that needs only Pillow")
    return f"{kind}ImageProcessorPil"


def read_settings(path: Path) -> dict[str, Any]:
    """A JSON object of a model folder; empty if there is no such file. Raises ZooError for a file that is not one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ZooError(f"{path}: cannot be read as JSON: {str(error)[:120]}") from None
    if not isinstance(found, dict):
        raise ZooError(f"{path}: is not a JSON object")
    return found
