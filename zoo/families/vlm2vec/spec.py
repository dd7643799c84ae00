"""The `encoder:` section of VLM2Vec: a vision-language model, its instructions and its training. Pydantic only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from zoo.core.errors import ZooError
from zoo.data.spec import Data
from zoo.families.vlm2vec.architectures import architecture, read_settings
from zoo.hub.model_references import locate
from zoo.schema import Kind, Positive, Renamed, Roles, Section
from zoo.spec import EncoderSpec, ExtraDataset, Mistake

MMEB: dict[str, tuple[str, Kind]] = {
    "query": ("qry", "caption"),
    "query_image": ("qry_image_path", "pictures"),
    "positive": ("pos_text", "caption"),
    "positive_image": ("pos_image_path", "pictures"),
    "negative": ("neg_text", "captions"),
    "negative_image": ("neg_image_path", "pictures"),
}
"""What the training sets of MMEB call a set's columns, which are read under either name; and what each holds."""
ROLES: dict[str, Kind] = {name: kind for role, (other, kind) in MMEB.items() for name in (role, other)}
"""Columns of a set, none of which it needs, though both sides must have something; a negative is a text, an image, or both."""


class VLMSpec(Section):
    """`backbone:`, a vision-language model: exactly one of `build` and `model`."""

    renamed_fields = {"vocabulary": Renamed("vocab_size")}

    build: Literal["idefics3"] | None = Field(None, description="A small Idefics3, trained from scratch.")
    model: Annotated[str, Field(min_length=1)] | None = Field(None, description="Hub id or folder.")
    revision: str | None = None
    hidden: Annotated[int, Field(ge=16, le=4096, multiple_of=8)] = Field(64, description="build: width of both towers.")
    layers: Annotated[int, Field(ge=1, le=64)] = Field(2, description="build: blocks of the language model.")
    vision_layers: Annotated[int, Field(ge=1, le=64)] = Field(2, description="build: blocks of the vision tower.")
    heads: Annotated[int, Field(ge=1, le=64)] = Field(4, description="build: attention heads of both.")
    patch: Annotated[int, Field(ge=2, le=64)] = Field(7, description="build: side of a patch in pixels.")
    merge: Annotated[int, Field(ge=1, le=8)] = Field(2, description="build: side of the square of patches in a token.")
    vocab_size: Annotated[int, Field(ge=300, le=65536)] = Field(
        512, description="build: tokens of the byte-level BPE that is trained on the training texts."
    )
    size: Annotated[int, Field(ge=8, le=4096)] | None = Field(
        None, description="Resolution: the longest side of an image in pixels; by default the model's own, or 56."
    )
    dtype: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="Of the weights.")
    attention: Literal["eager", "sdpa", "flash_attention_2"] | None = Field(
        None, description="Implementation of attention; by default what transformers chooses."
    )
    max_length: Positive | None = Field(None, description="Tokens that are read of a text; images do not count.")

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fits(self) -> VLMSpec:
        if (self.build is None) == (self.model is None):
            raise ValueError("give one of build and model")
        if self.revision and not self.model:
            raise ValueError("`revision` is that of a `model`")
        if self.build:
            if self.hidden % (2 * self.heads):
                raise ValueError(f"hidden: {self.hidden} cannot be split into {self.heads} heads of even width")
            if self.side % (self.patch * self.merge):
                raise ValueError(f"size: {self.side} is no multiple of patch × merge, {self.patch * self.merge}")
        return self

    @property
    def side(self) -> int:
        """build: the side of the square image in pixels."""
        return self.size or 56


class Lora(Section):
    """`lora:`, low-rank adapters in place of full fine-tuning. Source: Hu et al., arXiv 2106.09685; DoRA: arXiv 2402.09353."""

    rank: Annotated[int, Field(ge=1, le=1024)] = 8
    alpha: Annotated[float, Field(gt=0)] = 64.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    dora: bool = Field(False, description="Weight-decomposed: magnitude and direction apart.")
    modules: tuple[Annotated[str, Field(pattern=r"^\w+$")], ...] = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        min_length=1,
        description="Last names of the linear maps that are adapted.",
    )
    vision: bool = Field(False, description="Also in the vision tower, and not in the language model alone.")
    keep: Literal["merged", "adapter"] = Field(
        "merged", description="What the model folder holds: whole weights, or the adapter and the name of its base."
    )

    @model_validator(mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        modules = value.get("modules") if isinstance(value, dict) else None
        return {**value, "modules": tuple(modules)} if isinstance(modules, list) else value


class Instructions(Section):
    """What stands before a query and before a document, after its images; nothing by default."""

    query: str | None = None
    document: str | None = None


class Share(Instructions):
    """How a set of rows takes part: its weight against the other sets, and instructions in place of the encoder's."""

    weight: Annotated[float, Field(gt=0)] = Field(1.0, description="How often a sub-batch comes from this set.")


class View(Section):
    """One instruction for everything; or, where queries and documents are told apart, as in retrieval, one for each."""

    instruction: str | None = Field(None, description="Instruction of every input, in words of one's own.")
    role: Literal["query", "document"] | None = Field(None, description="Whose instruction every input has.")
    query: str | None = Field(None, description="Instruction of queries, in place of the encoder's.")
    document: str | None = Field(None, description="Instruction of documents, in place of the encoder's.")


class Spec(EncoderSpec):
    """`encoder:` of a vision-language model that is trained to embed."""

    View = View
    accepts_mixed_inputs = True
    pictures = {"retrieved": "plots:retrieved"}

    family: Literal["vlm2vec"]
    backbone: VLMSpec = Field(description="Hub id, folder, or {build: idefics3} for a small one from scratch.")
    instructions: Instructions = Field(
        default=Instructions(), description="What queries and documents are preceded by."
    )
    sets: dict[str, Data] = Field(default={}, description="Further sets of rows, beside `data`.")
    mixture: dict[str, Share] = Field(
        default={}, description="Weight and instructions by set; `data` is the recipe's own."
    )
    sub_batch: Positive = Field(default=64, description="Rows of one set that come together, of several sets.")
    lora: Lora | None = Field(default=None, description="Low-rank adapters; without it every weight is trained.")
    freeze_vision: bool = Field(default=False, description="Leave the vision tower as it is.")
    temperature: Annotated[float, Field(gt=0)] = Field(default=0.02, description="Divides cosines.")
    symmetric: bool = Field(default=False, description="Also let every document find its query.")
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None, description="The backbone's own if unset."
    )
    chunk: Positive | Literal["auto", "whole"] = Field(
        default="auto",
        description="Inputs whose activations are held at a time, the others being run again; auto: by free memory.",
    )
    gradient_checkpointing: bool = Field(default=False, description="Run every block again on the way back.")

    @model_validator(mode="after")
    def _fits(self) -> Spec:
        if odd := sorted(self.mixture.keys() - {"data", *self.sets}):
            raise ValueError(f"mixture: there is no set {odd[0]!r}; there are: {', '.join(['data', *self.sets])}")
        if "data" in self.sets:
            raise ValueError("sets: `data` is the name of the recipe's own rows; call it something else")
        if self.lora and self.lora.keep == "adapter" and self.backbone.build:
            raise ValueError("lora.keep: an adapter needs a base that others have; of one from scratch keep it merged")
        return self

    @property
    def modalities(self) -> tuple[str, ...]:
        """Texts, images, and mixtures of both."""
        return ("text", "image")

    @property
    def extras(self) -> tuple[str, ...]:
        """Images need `image`, an adapter needs `lora`."""
        return ("image", "lora") if self.lora else ("image",)

    def roles(self) -> tuple[Roles, Roles]:
        """A query, the documents that answer it, and optionally some that do not, each a text, images or both."""
        return {}, ROLES

    def extra_datasets(self) -> Mapping[tuple[str, ...], ExtraDataset]:
        """The other sets."""
        return {("sets", name): ExtraDataset(data, *self.roles()) for name, data in self.sets.items()}

    def find_mistakes(self, folder: Path) -> list[Mistake]:
        """Report a backbone that does not exist or whose architecture is not supported."""
        problem = find_backbone_problem(self.backbone, folder)
        return [(("backbone",), problem)] if problem else []

    def find_view_mistake(self, view: Mapping[str, Any], folder: Path) -> str | None:
        """`instruction` is for every input, so the other options exclude it."""
        options = [name for name in View.model_fields if view.get(name) is not None]
        other = next((name for name in options if name != "instruction"), None)
        return f"give `instruction` or `{other}`, not both" if other and "instruction" in options else None


def find_backbone_problem(spec: VLMSpec, folder: Path) -> str | None:
    """What is wrong with a backbone, without a download; None if nothing is."""
    if spec.model is None:
        return None
    try:
        place = locate(spec.model, folder)
        if place is None:
            return None
        if not (place / "config.json").is_file():
            return f"{spec.model}: has no config.json, so it is not a model of transformers"
        kind = architecture(str(read_settings(place / "config.json").get("model_type")))
        if spec.size:
            kind.resized(spec.size, read_settings(place / "preprocessor_config.json"))
    except ZooError as error:
        return str(error)
    return None
