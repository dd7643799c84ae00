"""A vision-language model as an encoder: inputs to tensors, tensors to the state of the last token.

Source: VLM2Vec, arXiv 2410.05160, section 3.2. What differs between architectures is in `architectures`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zoo.core.errors import ZooError
from zoo.core.lazy import lazy
from zoo.families.vlm2vec.architectures import Architecture, architecture
from zoo.families.vlm2vec.prompt_template import IMAGE, worded

if TYPE_CHECKING:
    import torch
    import transformers
else:
    torch, transformers = lazy("torch"), lazy("transformers")

SPLIT = ("rows", "cols")  # what an image processor says of its tiles, and no model takes
MASK = "pixel_attention_mask"
LONGEST = 4096  # tokens of a text, where neither the recipe nor the tokenizer says


def last_state(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(n, width) of token states (n, tokens, width): those at the last position that `mask` (n, tokens) has, on whichever side
    the padding is."""
    place = mask.shape[1] - 1 - mask.flip(1).long().argmax(1)
    return states[torch.arange(len(states), device=states.device), place.to(states.device)]


@dataclass
class VLM:
    """A vision-language model with its tokenizer and image processor.

    Attributes:
        model: the bare model of transformers, without a head.
        image_processor: one that needs only Pillow.
        name, revision: the pretrained model it starts from, if any.
        max_length: tokens that are read of a text.
        beside: further small files of the pretrained model, by name, that stock libraries want.
    """

    model: Any
    tokenizer: Any
    image_processor: Any
    name: str | None = None
    revision: str = ""
    max_length: int = LONGEST
    beside: Mapping[str, str] = field(default_factory=dict)

    @property
    def architecture(self) -> Architecture:
        """What is particular to this kind of model."""
        return architecture(self.config.model_type)

    @property
    def config(self) -> Any:
        """That of the model."""
        return self.model.config

    @property
    def width(self) -> int:
        """Components of a vector."""
        return int(self.config.get_text_config().hidden_size)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def batch(self, inputs: Sequence[Sequence[Any]], instructions: Sequence[str | None]) -> dict[str, torch.Tensor]:
        """The model's tensors, rows padded together, of inputs as `mixed_inputs.parts` makes them."""
        kind = self.architecture
        images = [[part for part in parts if not isinstance(part, str)] for parts in inputs]
        made = self._processed(images)
        texts, seen = [], 0
        for parts, instruction in zip(inputs, instructions, strict=True):
            said = ""
            for word in worded([self._plain(p) if isinstance(p, str) else p for p in parts], instruction):
                if word is IMAGE:
                    said += kind.tokens(made, seen, self.config, self.image_processor)
                    seen += 1
                else:
                    said += str(word)
            texts.append(said)
        tokens = dict(self.tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=False))
        if kind.types:
            image_token = self.tokenizer.convert_tokens_to_ids(kind.image_token)
            tokens["mm_token_type_ids"] = (tokens["input_ids"] == image_token).long()
        if MASK in made:
            made[MASK] = made[MASK].bool()  # as whole numbers it would weigh two thirds of what the pixels do
        return tokens | {name: value for name, value in made.items() if name not in SPLIT}

    def _processed(self, images: list[list[Any]]) -> dict[str, Any]:
        flat = [image for row in images for image in row]
        if not flat:
            return {}
        nested, told = self.architecture.nested, {}
        if nested:
            told["return_row_col_info"] = True
        try:
            return dict(self.image_processor(images if nested else flat, return_tensors="pt", **told))
        except ValueError as error:
            raise ZooError(f"an image cannot be brought to what the model looks at: {error}") from None

    def _plain(self, text: str) -> str:
        """At most `max_length` tokens of a text, in which the tokens that stand for images are words like any other."""
        held = re.split(r"[<>|]+", self.architecture.marker + "<fake_token_around_image><global-img>")
        for name in sorted({each for each in held if each}):
            text = re.sub(rf"<(\|?){re.escape(name)}(\|?)>", rf"< \g<1>{name}\g<2>>", text)
        if len(text) <= self.max_length:  # a token has a character at least
            return text
        cut = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return text if len(cut) <= self.max_length else text[: cut[self.max_length - 1][1]]

    def features(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(n, width) in float32 or better, not normalised, of what `batch` makes; the tensors may be on another device."""
        device, dtype = self.device, self.model.dtype
        ready = {
            name: value.to(device, dtype) if value.is_floating_point() else value.to(device)
            for name, value in batch.items()
        }
        states = self.model(**ready, use_cache=False).last_hidden_state
        found = last_state(states, ready["attention_mask"])
        return found.to(torch.promote_types(found.dtype, torch.float32))

    def set_dropout(self, rate: float) -> None:
        """Of attention and of every dropout layer."""
        for module in self.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = rate
            for name in ("attention_dropout", "dropout"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, rate)

    def state(self) -> dict[str, Any]:
        """What reading it needs besides its files."""
        return {"max_length": self.max_length}
