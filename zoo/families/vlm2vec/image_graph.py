"""`ImageToVector`: square images of one size to unit vectors, as one module that can be exported.

An image of this size always becomes the same number of tokens. So the tokens around it, instruction included, are constants of
the graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from zoo.core.errors import ZooError
from zoo.data.formats import image_files
from zoo.families.vlm2vec.vlm import VLM
from zoo.graph import Graph

TOLERANCE = 1e-5
"""Largest difference between pixels of the image processor and the same pixels normalised here."""


class _Normalisation(torch.nn.Module):
    """Pixels (batch, channels, size, size) uint8 to those that the vision tower takes, float32."""

    mean: torch.Tensor
    factor: torch.Tensor

    def __init__(self, image_processor: Any) -> None:
        super().__init__()
        rescale = float(image_processor.rescale_factor) if image_processor.do_rescale else 1.0
        is_normalised = bool(image_processor.do_normalize)
        mean = image_processor.image_mean if is_normalised else [0.0] * 3
        deviation = image_processor.image_std if is_normalised else [1.0] * 3
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1) / rescale)
        self.register_buffer("factor", rescale / torch.tensor(deviation, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the normalised pixels."""
        return (pixels.float() - self.mean) * self.factor


class _Idefics(torch.nn.Module):
    """The vision tower of Idefics3 and SmolVLM, for images without padding."""

    def __init__(self, model: Any, pixels: torch.Tensor) -> None:
        super().__init__()
        tower = model.vision_model
        self.patches, self.encoder, self.norm = tower.embeddings.patch_embedding, tower.encoder, tower.post_layernorm
        self.connector = model.connector
        self.register_buffer("positions", _find_positions(tower, pixels))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the features (batch, tokens, width) of normalised pixels."""
        states = self.patches(pixels).flatten(2).transpose(1, 2) + self.positions
        states = self.encoder(inputs_embeds=states, attention_mask=None).last_hidden_state
        features: torch.Tensor = self.connector(self.norm(states))
        return features


def _find_positions(tower: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Return the position embeddings (patches, width) of an image that fills its square."""
    outputs: list[torch.Tensor] = []
    layer = tower.embeddings.position_embedding
    hook = layer.register_forward_hook(lambda _layer, _inputs, output: outputs.append(output))
    side = pixels.shape[-1] // tower.patch_size
    try:
        with torch.no_grad():
            tower.embeddings(pixels, torch.ones(1, side, side, dtype=torch.bool))
    finally:
        hook.remove()
    return outputs[0][0].detach().clone()


class _Llava(torch.nn.Module):
    """The vision tower of LLaVA."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.tower, self.projector = model.vision_tower, model.multi_modal_projector
        layers = model.config.vision_feature_layer
        self.layers = [layers] if isinstance(layers, int) else list(layers)
        self.first = int(model.config.vision_feature_select_strategy == "default")

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the features (batch, tokens, width) of normalised pixels."""
        states = self.tower(pixels, output_hidden_states=True).hidden_states
        chosen = torch.cat([states[layer][:, self.first :] for layer in self.layers], dim=-1)
        features: torch.Tensor = self.projector(chosen)
        return features


class ImageToVector(torch.nn.Module):
    """Images (batch, channels, size, size) uint8 to unit vectors (batch, width).

    Args:
        vlm: the model.
        size: side of the images in pixels.
        instruction: the instruction that stands before each image's vector; None for none.

    Raises ZooError for an architecture whose number of image tokens follows the image, and for an image processor that resizes
    or cuts images of this size.
    """

    before: torch.Tensor
    after: torch.Tensor

    def __init__(self, vlm: VLM, size: int, instruction: str | None) -> None:
        super().__init__()
        self.normalise = _Normalisation(vlm.image_processor)
        image = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
        batch = vlm.prepare_batch([[image_files.import_pillow().fromarray(image)]], [instruction])
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
        self._check_pixels(vlm, batch, pixels)
        self.features = _Llava(vlm.model) if vlm.config.model_type == "llava" else _Idefics(vlm.model, pixels.float())
        self.language_model = vlm.model.get_submodule(vlm.architecture.language_model)
        ids = batch["input_ids"][0]
        is_image = ids == vlm.tokenizer.convert_tokens_to_ids(vlm.architecture.image_token)
        places = is_image.nonzero().flatten()
        with torch.no_grad():
            embedded = self.language_model.get_input_embeddings()(ids)
        self.register_buffer("before", embedded[: places[0]].detach().clone())
        self.register_buffer("after", embedded[places[-1] + 1 :].detach().clone())

    def _check_pixels(self, vlm: VLM, batch: dict[str, torch.Tensor], pixels: torch.Tensor) -> None:
        prepared, expected = batch["pixel_values"].flatten(0, -4), self.normalise(pixels)
        mask = batch.get("pixel_attention_mask")
        is_same = prepared.shape == expected.shape and bool((prepared - expected).abs().max() <= TOLERANCE)
        if not is_same or (mask is not None and not bool(mask.all())):
            raise ZooError(
                f"the family vlm2vec cannot be exported as a graph with this backbone: its image processor resizes or cuts "
                f"images of {pixels.shape[-1]} pixels; set `encoder.backbone.size: {pixels.shape[-1]}` and train again"
            )

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the vectors."""
        features = self.features(self.normalise(pixels))
        count = features.shape[0]
        around = [part.expand(count, -1, -1) for part in (self.before, self.after)]
        states = torch.cat([around[0], features, around[1]], dim=1)
        mask = torch.ones_like(states[:, :, 0], dtype=torch.int64)
        states = self.language_model(inputs_embeds=states, attention_mask=mask, use_cache=False).last_hidden_state
        return torch.nn.functional.normalize(states[:, -1].float(), dim=-1)


def make_graph(vlm: VLM, instruction: str | None) -> Graph:
    """Return the graph of images. Raises ZooError for an architecture or an image processor that has none."""
    if vlm.config.model_type not in ("idefics3", "smolvlm", "llava"):
        raise ZooError(
            f"the family vlm2vec cannot be exported as a graph with {vlm.config.model_type}: the tokens of an image follow its "
            "shape; images of Idefics3, SmolVLM and LLaVA have a graph"
        )
    size = int(vlm.config.vision_config.image_size)
    return Graph({"": ImageToVector(vlm, size, instruction)}, modality="image", size=size, channels=3)
