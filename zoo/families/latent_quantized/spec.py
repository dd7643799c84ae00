"""The `encoder:` section of an autoencoder. Pydantic only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from zoo.schema import Renamed, Roles, Section
from zoo.spec import EncoderSpec

Width = Annotated[int, Field(ge=1, le=4096)]


class Network(Section):
    """Encoder and decoder. The defaults are the 12 blocks of arXiv 2305.18378, appendix B, for 64 × 64 pixels; of vectors only
    `dense` counts."""

    widths: tuple[Width, ...] = Field(
        (32, 64, 128, 256), min_length=1, max_length=6, description="Channels by stage, each of half the side."
    )
    blocks: Annotated[int, Field(ge=1, le=8)] = Field(
        3, description="Convolutions a stage, the last one of which halves the side."
    )
    patch: Literal[1, 2, 4, 8] = Field(1, description="Side of the patches that the image is cut into beforehand.")
    dense: tuple[Width, ...] = Field((256, 256), max_length=6, description="Widths of the layers beside the latents.")
    norm: Literal["instance", "none"] = Field("instance", description="After every convolution.")
    decoder: Literal["image", "style"] = Field(
        "image", description="The encoder mirrored, or blocks whose gains and offsets the latents set (AdaIN)."
    )

    @property
    def shrinks(self) -> int:
        """How many pixels of a side become one."""
        return self.patch * 2 ** len(self.widths)


SMALL = Network(widths=(32, 64), blocks=1, patch=4, dense=(256,), norm="none")
"""For a laptop."""


Size = Annotated[int, Field(ge=2, le=65_536)]
Kinds = Literal["quantized", "continuous", "gaussian", "vector"]


class View(Section):
    """`values: true` gives the float32 values that the indices stand for."""

    values: bool = Field(False, description="Values instead of their indices.")


class Spec(EncoderSpec):
    """`encoder:` of an autoencoder.

    Weight decay, which is unusually strong, is set under `training:`; biases and codebooks are not decayed.
    """

    View = View
    training_defaults = {
        "learning_rate": 1e-3,
        "weight_decay": 0.1,
        "batch_size": 128,
        "schedule": "constant",
        "warmup": 0.0,
    }
    pictures = {
        "traversal": "plots:traversal",
        "nmi": "plots:nmi",
        "reconstructions": "plots:reconstructions",
        "codebook": "plots:codebook",
    }
    renamed_fields = {"values": Renamed("levels"), "net": Renamed("network")}

    family: Literal["latent-quantized"]
    latent: Kinds = Field(
        "quantized",
        description="quantized: each latent takes one of its own scalars. Baselines: continuous (a plain autoencoder), gaussian "
        "(β-VAE), vector (VQ-VAE).",
    )
    latents: Annotated[int, Field(ge=1, le=4096)] = Field(10, description="About twice the number of sources.")
    levels: Size | tuple[Size, ...] = Field(
        10, description="quantized: number of scalars of each latent; one number for all, or a list."
    )
    vectors: Size = Field(512, description="vector: of the codebook that all latents share.")
    vector_dim: Annotated[int, Field(ge=1, le=1024)] = Field(64, description="vector: components of each.")
    codebook_weight: Annotated[float, Field(ge=0)] | None = Field(
        None, description="Of what moves the codebook; by default 0.01, for vector 1."
    )
    commitment_weight: Annotated[float, Field(ge=0)] | None = Field(
        None, description="Of what keeps the encoder near it; by default 0.01, for vector 0.25."
    )
    beta: Annotated[float, Field(ge=0)] = Field(4.0, description="gaussian: weight of the KL divergence in nats.")
    modality: Literal["image", "vector"] = "image"
    size: Annotated[int, Field(ge=4, le=512)] = Field(64, description="Side of the square images in pixels.")
    channels: Literal[1, 3] = Field(1, description="Grey or RGB.")
    network: Literal["paper", "small"] | Network = Field("paper", description="Encoder and decoder.")
    baselines: tuple[Kinds, ...] = Field(
        (), description="Also train these kinds of latents, and measure all on the validation rows, for the card."
    )
    sources: tuple[str, ...] = Field((), description="Columns that hold the sources of the validation rows.")

    @model_validator(mode="after")
    def _fits(self) -> Spec:
        if isinstance(self.levels, tuple) and len(self.levels) != self.latents:
            raise ValueError(f"`levels` has {len(self.levels)} sizes for {self.latents} latents")
        if self.modality == "image" and self.size % self.layers.shrinks:
            raise ValueError(f"`size` is {self.size}, but the network needs a multiple of {self.layers.shrinks}")
        if self.baselines and not self.sources:
            raise ValueError("baselines are compared by the sources of the validation rows: name them as `sources`")
        return self

    @property
    def layers(self) -> Network:
        """The networks that `network` stands for."""
        return self.network if isinstance(self.network, Network) else SMALL if self.network == "small" else Network()

    @property
    def sizes(self) -> tuple[int, ...]:
        """quantized: how many values each latent has."""
        return self.levels if isinstance(self.levels, tuple) else (self.levels,) * self.latents

    @property
    def discrete(self) -> bool:
        """Whether an encoded input is a row of indices."""
        return self.latent in ("quantized", "vector")

    @property
    def modalities(self) -> tuple[str, ...]:
        """Images or vectors."""
        return (self.modality,)

    def roles(self) -> tuple[Roles, Roles]:
        """An image or a vector, and the sources if baselines are compared."""
        return {self.modality: self.modality, **dict.fromkeys(self.sources, "label")}, {}

    def find_view_mistake(self, view: Mapping[str, Any], folder: Path) -> str | None:
        """Latents without indices have values alone."""
        return None if self.discrete or not view.get("values") else f"latent: {self.latent} has values alone"
