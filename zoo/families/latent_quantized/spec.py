"""The `encoder:` section of an autoencoder. Pydantic only."""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from zoo.schema import Renamed, Roles, Section
from zoo.spec import FREE_BASELINES, EncoderSpec, EpochRule, RowNeeds

Width = Annotated[int, Field(ge=1, le=4096)]


class Network(Section):
    """The networks of encoder and decoder.

    The fields' defaults are the 12 blocks of arXiv 2305.18378, appendix B, for 64 × 64 pixels. `modality: vector` uses `dense`
    alone.
    """

    widths: tuple[Width, ...] = Field(
        (32, 64, 128, 256),
        min_length=1,
        max_length=6,
        description="Channels of each stage. A stage halves the side of the image.",
    )
    blocks: Annotated[int, Field(ge=1, le=8)] = Field(
        3, description="Convolutions in each stage; the last one halves the side."
    )
    patch: Literal[1, 2, 4, 8] = Field(
        1, description="Side of the patches that the image is cut into before the first stage."
    )
    dense: tuple[Width, ...] = Field(
        (256, 256), max_length=6, description="Widths of the dense layers between the convolutions and the latents."
    )
    norm: Literal["instance", "none"] = Field("instance", description="Normalisation after every convolution.")
    decoder: Literal["image", "style"] = Field(
        "image",
        description="image: the encoder mirrored. style: convolutions whose gains and offsets the latents set (AdaIN).",
    )

    @property
    def downscaling(self) -> int:
        """The factor by which the convolutions divide the side of an image."""
        return self.patch * (1 << len(self.widths))


UNPATCHED_SIDE = 28  # larger images are cut into patches first, which makes the convolutions several times faster
LAST_SIDE = 4  # smallest side that stages end with
AUTO_WIDTHS = (32, 64, 128, 256, 256, 256)


def choose_network(size: int) -> Network:
    """Return the network of `network: auto` for images of `size` pixels, an even number.

    Patches halve a side above UNPATCHED_SIDE, and stages then halve it as long as LAST_SIDE pixels remain. There is at least one
    stage. For example, 28 pixels give two stages and end with 7; 64 give patches of 4, two stages, and end with 4. Nothing is
    normalised in the encoder, because instance norm erases what is the same in the whole image, for example the colour of a
    background. The decoder is the one of styles, which learns most in the few steps of `training_defaults`.
    """
    patch, side = 1, size
    while side > UNPATCHED_SIDE and side % 4 == 0 and patch < 8:
        patch, side = 2 * patch, side // 2
    stages, side = 1, side // 2
    while side % 2 == 0 and side >= 2 * LAST_SIDE and stages < len(AUTO_WIDTHS):
        stages, side = stages + 1, side // 2
    return Network(widths=AUTO_WIDTHS[:stages], blocks=1, patch=patch, dense=(256,), norm="none", decoder="style")


SMALL = Network(widths=(32, 64), blocks=1, patch=4, dense=(256,), norm="none")
"""Networks that train on a laptop."""
NORMS = {"auto": "none", "small": SMALL.norm, "paper": Network().norm}

Size = Annotated[int, Field(ge=2, le=65_536)]
IMAGE_EPOCHS = EpochRule(rows_read=150_000, least=2, most=200)
NORMALISED_EPOCHS = EpochRule(rows_read=60_000, least=2, most=200)
VECTOR_EPOCHS = EpochRule(rows_read=200_000, least=5, most=200)
LINEAR_EPOCHS = EpochRule(rows_read=20_000, least=1, most=10)
LINEAR_LATENTS = ("quantized", "continuous")
PAPER_TRAINING = {"learning_rate": 1e-3, "weight_decay": 0.1, "batch_size": 128, "schedule": "constant", "warmup": 0.0}
"""`training:` of the paper, for its network, others with instance norm, and vectors."""
Latent = Literal["quantized", "continuous", "gaussian", "vector"]


class View(Section):
    """`values: true` gives float32 values: the scalars or codewords that the indices stand for."""

    values: bool = Field(False, description="Values instead of their indices.")


class Spec(EncoderSpec):
    """`encoder:` of an autoencoder.

    Set the weight decay under `training:`. Its default is unusually strong; it does not apply to biases and codebooks.
    Networks without normalisation learn images in few steps, if the rate is high and the decay stronger still. Without a warm-up
    such a rate can leave one code for all images.
    """

    View = View
    training_defaults = {
        "learning_rate": 5e-3,
        "weight_decay": 1.0,
        "batch_size": 64,
        "schedule": "cosine",
        "warmup": 0.05,
    }
    free_baselines = (*FREE_BASELINES, "free_baselines:SimpleCodes", "free_baselines:PlainAutoencoder")
    pictures = {
        "traversal": "plots:draw_traversal",
        "nmi": "plots:draw_nmi",
        "reconstructions": "plots:draw_reconstructions",
        "codebook": "plots:draw_codebook",
    }
    renamed_fields = {"values": Renamed("levels"), "net": Renamed("network")}

    family: Literal["latent-quantized"]
    latent: Latent = Field(
        "quantized",
        description="quantized: each latent takes one of its own scalars. continuous: a plain autoencoder. gaussian: β-VAE. "
        "vector: VQ-VAE.",
    )
    latents: Annotated[int, Field(ge=1, le=4096)] = Field(
        10, description="Number of latents; about twice the number of sources works well."
    )
    levels: Size | tuple[Size, ...] = Field(
        10, description="quantized: number of scalars of each latent; one number for all latents, or a list."
    )
    vectors: Size = Field(512, description="vector: number of codewords in the codebook that all latents share.")
    vector_dim: Annotated[int, Field(ge=1, le=1024)] = Field(64, description="vector: components of a codeword.")
    codebook_weight: Annotated[float, Field(ge=0)] | None = Field(
        None,
        description="Weight of the loss that moves codewords towards the encoder's outputs. Default: 0.01; for vector 1.",
    )
    commitment_weight: Annotated[float, Field(ge=0)] | None = Field(
        None,
        description="Weight of the loss that moves the encoder's outputs towards codewords. Default: 0.01; for vector 0.25.",
    )
    beta: Annotated[float, Field(ge=0)] = Field(4.0, description="gaussian: weight of the KL divergence in nats.")
    modality: Literal["image", "vector"] = Field("image", description="The kind of inputs.")
    size: Annotated[int, Field(ge=4, le=512)] = Field(64, description="Side of the square images in pixels.")
    channels: Literal[1, 3] = Field(1, description="Grey or RGB.")
    network: Literal["auto", "paper", "small"] | Network = Field(
        "auto",
        description="Encoder and decoder. auto: few blocks, as many stages as `size` can be halved; for vectors linear maps, "
        "which start at principal components. paper: 12 blocks, which needs a GPU. small: trains fast on sides that 16 divides.",
    )
    baselines: tuple[Latent, ...] = Field(
        (), description="Also train these kinds of latents; the card compares all of them on the validation rows."
    )
    sources: tuple[str, ...] = Field((), description="Columns that hold the sources of the validation rows.")

    @classmethod
    def choose_training_defaults(cls, section: Mapping[str, Any]) -> Mapping[str, Any]:
        """A high rate and a strong decay for images in networks without normalisation, and else those of the paper."""
        network = section.get("network", "auto")
        norm = network.get("norm", "instance") if isinstance(network, Mapping) else NORMS.get(str(network))
        is_image = section.get("modality", "image") == "image"
        return cls.training_defaults if is_image and norm == "none" else PAPER_TRAINING

    @property
    def epoch_rule(self) -> EpochRule:
        """Vectors are read more often than images, which cost far more; networks that start at the best linear map, rarely."""
        if self.starts_linear:
            return LINEAR_EPOCHS
        if self.modality == "vector":
            return VECTOR_EPOCHS
        return IMAGE_EPOCHS if self.layers.norm == "none" else NORMALISED_EPOCHS

    @model_validator(mode="after")
    def _check_sizes(self) -> Spec:
        if isinstance(self.levels, tuple) and len(self.levels) != self.latents:
            raise ValueError(f"`levels` has {len(self.levels)} sizes for {self.latents} latents")
        if self.modality == "image" and self.network == "auto" and self.size % 2:
            raise ValueError(
                f"`size` is {self.size}, but a network halves the side: set {self.size - 1} or {self.size + 1}"
            )
        if self.modality == "image" and self.size % self.layers.downscaling:
            raise ValueError(f"`size` is {self.size}, but this network needs a multiple of {self.layers.downscaling}")
        if self.baselines and not self.sources:
            raise ValueError(
                "`baselines` are compared by the sources of the validation rows: list their columns in `sources`"
            )
        return self

    @property
    def layers(self) -> Network:
        """The sizes of the networks that `network` stands for."""
        if isinstance(self.network, Network):
            return self.network
        if self.network == "auto" and self.modality == "image":
            return choose_network(self.size)
        if self.network == "auto" and self.latent in LINEAR_LATENTS:
            return Network(dense=())
        return SMALL if self.network == "small" else Network()

    @property
    def starts_linear(self) -> bool:
        """Whether both networks are linear maps of vectors, which start at principal components."""
        return self.modality == "vector" and self.latent in LINEAR_LATENTS and not self.layers.dense

    @property
    def sizes(self) -> tuple[int, ...]:
        """quantized: the number of scalars of each latent."""
        return self.levels if isinstance(self.levels, tuple) else (self.levels,) * self.latents

    @property
    def discrete(self) -> bool:
        """Whether an encoded input is a row of indices, rather than of floats."""
        return self.latent in ("quantized", "vector")

    @property
    def modalities(self) -> tuple[str, ...]:
        """Images or vectors."""
        return (self.modality,)

    def roles(self) -> tuple[Roles, Roles]:
        """An image or a vector, and the columns in `sources`."""
        return {self.modality: self.modality, **dict.fromkeys(self.sources, "label")}, {}

    @property
    def codes_problem(self) -> str:
        """Latents with indices are codes already."""
        return (
            f"latent: {self.latent} gives codes already; remove `after`, or choose a latent of values"
            if self.discrete
            else ""
        )

    def list_unused_fields(self, has_validation: bool) -> set[str]:
        """Fields of other kinds of latents, and of the other modality."""
        unused = set() if self.latent == "quantized" else {"levels"}
        unused |= set() if self.latent == "vector" else {"vectors", "vector_dim"}
        unused |= set() if self.latent == "gaussian" else {"beta"}
        unused |= set() if self.discrete else {"codebook_weight", "commitment_weight"}
        if self.modality == "vector":
            of_images = {f"network.{name}" for name in Network.model_fields if name != "dense"}
            unused |= {"size", "channels"} | of_images
        return unused

    def describe_row_needs(self, columns: Container[str]) -> RowNeeds:
        """Inputs that differ."""
        return RowNeeds(distinct=((self.modality,),))

    def find_view_mistake(self, view: Mapping[str, Any], folder: Path) -> str | None:
        """Only latents with indices have the view `values`."""
        if view.get("values") and not self.discrete:
            return f"latent: {self.latent} has values alone, which `encode` gives without a view"
        return None
