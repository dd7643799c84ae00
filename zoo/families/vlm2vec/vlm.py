"""A vision-language model as an encoder: turn inputs into tensors, and tensors into the state of the last token.

Source: VLM2Vec, arXiv 2410.05160, section 3.2. The differences between architectures are in `architectures`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from zoo.core.errors import ZooError
from zoo.families.vlm2vec.architectures import Architecture, get_architecture
from zoo.families.vlm2vec.prompt_template import IMAGE, apply_template

TILE_COUNTS = ("rows", "cols")  # outputs of an image processor that no model takes
PIXEL_MASK = "pixel_attention_mask"
DEFAULT_MAX_LENGTH = 4096  # tokens of a text, if neither the recipe nor the tokenizer sets a limit


def select_last_state(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Select the state of each row's last token: states (n, tokens, width), mask (n, tokens) → (n, width).

    The mask is 0 at padding, which may be on either side.
    """
    position = mask.shape[1] - 1 - mask.flip(1).long().argmax(1)
    return states[torch.arange(len(states), device=states.device), position.to(states.device)]


@dataclass
class VLM:
    """A vision-language model with its tokenizer and image processor.

    Attributes:
        model: the bare model of transformers, without a head.
        tokenizer: a tokenizer of transformers.
        image_processor: an image processor of transformers that needs only Pillow.
        name, revision: the pretrained model that training starts from, if any.
        max_length: tokens of a text that are read; the tokens of images do not count.
        extra_files: further small files of the pretrained model that transformers needs: name → content.
        weights_folder: where the files of the pretrained model are.
        warns_of_image_paths: whether there was no warning yet of a text that is the path of an image file.
    """

    model: Any
    tokenizer: Any
    image_processor: Any
    name: str | None = None
    revision: str = ""
    max_length: int = DEFAULT_MAX_LENGTH
    extra_files: Mapping[str, str] = field(default_factory=dict)
    weights_folder: Path | None = None
    warns_of_image_paths: bool = True

    @property
    def architecture(self) -> Architecture:
        """The entry of `ARCHITECTURES` for this model."""
        return get_architecture(self.config.model_type)

    @property
    def config(self) -> Any:
        """The model's config of transformers."""
        return self.model.config

    @property
    def width(self) -> int:
        """Components of a vector."""
        return int(self.config.get_text_config().hidden_size)

    @property
    def device(self) -> torch.device:
        """The device of the model's parameters."""
        device: torch.device = next(self.model.parameters()).device
        return device

    def prepare_batch(
        self, inputs: Sequence[Sequence[Any]], instructions: Sequence[str | None]
    ) -> dict[str, torch.Tensor]:
        """Turn inputs into the tensors that the model takes, padded to the longest input.

        `inputs` are lists of texts and images, as `mixed_inputs.split_into_parts` returns them; `instructions` has one entry
        for each input.
        """
        architecture = self.architecture
        processor_output = self._process_images(
            [[part for part in parts if not isinstance(part, str)] for parts in inputs]
        )
        texts, image_index = [], 0
        for parts, instruction in zip(inputs, instructions, strict=True):
            text = ""
            safe_parts = [self._clean_text(part) if isinstance(part, str) else part for part in parts]
            for piece in apply_template(safe_parts, instruction):
                if piece is IMAGE:
                    text += architecture.write_image_tokens(
                        processor_output, image_index, self.config, self.image_processor
                    )
                    image_index += 1
                else:
                    text += str(piece)
            texts.append(text)
        tensors = dict(self.tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=False))
        if architecture.needs_token_types:
            image_token = self.tokenizer.convert_tokens_to_ids(architecture.image_token)
            tensors["mm_token_type_ids"] = (tensors["input_ids"] == image_token).long()
        if PIXEL_MASK in processor_output:
            # As int64 the mask would take two thirds of the memory of the pixels.
            processor_output[PIXEL_MASK] = processor_output[PIXEL_MASK].bool()
        return tensors | {name: value for name, value in processor_output.items() if name not in TILE_COUNTS}

    def _process_images(self, images: list[list[Any]]) -> dict[str, Any]:
        """The image processor's output for all images of a batch; {} if there are none."""
        flat_images = [image for row in images for image in row]
        if not flat_images:
            return {}
        try:
            if self.architecture.has_nested_images:
                return dict(self.image_processor(images, return_tensors="pt", return_row_col_info=True))
            return dict(self.image_processor(flat_images, return_tensors="pt"))
        except ValueError as error:
            raise ZooError(f"an image cannot be resized for the model: {error}; check the image's size") from None

    def _clean_text(self, text: str) -> str:
        """Cut a text after `max_length` tokens, and break up special tokens of images, so that no text passes for an image."""
        special_tokens = self.architecture.image_placeholder + "<fake_token_around_image><global-img>"
        names = set(re.split(r"[<>|]+", special_tokens)) - {""}
        for name in sorted(names):
            text = re.sub(rf"<(\|?){re.escape(name)}(\|?)>", rf"< \g<1>{name}\g<2>>", text)
        if len(text) <= self.max_length:  # a token has at least one character
            return text
        offsets = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return text if len(offsets) <= self.max_length else text[: offsets[self.max_length - 1][1]]

    def compute_features(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Compute the last token's state of each input: (n, width), not normalised, float32 or float64.

        `batch` comes from `prepare_batch`; its tensors may be on another device than the model.
        """
        device, dtype = self.device, self.model.dtype
        tensors = {
            name: value.to(device, dtype) if value.is_floating_point() else value.to(device)
            for name, value in batch.items()
        }
        states = self.model(**tensors, use_cache=False).last_hidden_state
        features = select_last_state(states, tensors["attention_mask"])
        return features.to(torch.promote_types(features.dtype, torch.float32))

    def set_dropout(self, rate: float) -> None:
        """Set the dropout rate of attention and of every dropout layer."""
        for module in self.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = rate
            for name in ("attention_dropout", "dropout"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, rate)
