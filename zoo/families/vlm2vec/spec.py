"""The `encoder:` section of VLM2Vec: a vision-language model, its instructions and its training. Pydantic only."""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from zoo.artefact import weights_look
from zoo.core.errors import ZooError
from zoo.data.spec import Data
from zoo.families.vlm2vec.architectures import get_architecture, read_settings
from zoo.hub.model_references import locate
from zoo.schema import Kind, Positive, Renamed, Roles, Section
from zoo.spec import EncoderSpec, EpochRule, ExtraDataset, Mistake, RowNeeds
from zoo.text.lora_spec import LoraSpec

SCRATCH_TRAINING = {"learning_rate": 1e-3, "schedule": "cosine", "batch_size": 128, "weight_decay": 0.01}
SCRATCH_EPOCHS = EpochRule(rows_read=180_000, least=4, most=60)
PRETRAINED_EPOCHS = EpochRule(rows_read=20_000, least=1, most=5)
ADAPTER_FOLDER = "adapter"
MMEB_COLUMNS: dict[str, tuple[str, Kind]] = {
    "query": ("qry", "caption"),
    "query_image": ("qry_image_path", "pictures"),
    "positive": ("pos_text", "caption"),
    "positive_image": ("pos_image_path", "pictures"),
    "negative": ("neg_text", "captions"),
    "negative_image": ("neg_image_path", "pictures"),
}
"""Columns of a training set: zoo's name → (the name in the training sets of MMEB, kind). Both names are read."""
ROLES: dict[str, Kind] = {name: kind for role, (mmeb_name, kind) in MMEB_COLUMNS.items() for name in (role, mmeb_name)}
"""Columns of a training set by either name. All are optional, but the query and the positive need a text, an image or both."""


class VLMSpec(Section):
    """`backbone:`, a vision-language model: exactly one of `build` and `model`."""

    renamed_fields = {"vocabulary": Renamed("vocab_size")}

    build: Literal["idefics3"] | None = Field(None, description="A small Idefics3, trained from scratch.")
    model: Annotated[str, Field(min_length=1)] | None = Field(None, description="Hub id or folder.")
    revision: str | None = Field(None, description="model: commit, tag or branch on the Hub.")
    hidden: Annotated[int, Field(ge=16, le=4096, multiple_of=8)] = Field(64, description="build: width of both towers.")
    layers: Annotated[int, Field(ge=1, le=64)] = Field(2, description="build: blocks of the language model.")
    vision_layers: Annotated[int, Field(ge=1, le=64)] = Field(2, description="build: blocks of the vision tower.")
    heads: Annotated[int, Field(ge=1, le=64)] = Field(4, description="build: attention heads of both towers.")
    patch: Annotated[int, Field(ge=2, le=64)] = Field(7, description="build: side of a patch in pixels.")
    merge: Annotated[int, Field(ge=1, le=8)] = Field(
        2, description="build: side of the square of patches that form one token."
    )
    vocab_size: Annotated[int, Field(ge=300, le=65536)] = Field(
        512, description="build: tokens of the byte-level BPE, which is trained on the training texts."
    )
    size: Annotated[int, Field(ge=8, le=4096)] | None = Field(
        None, description="Resolution: longest side of an image in pixels. Default: the model's own; 56 with `build`."
    )
    dtype: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="dtype of the weights.")
    attention: Literal["eager", "sdpa", "flash_attention_2"] | None = Field(
        None, description="Implementation of attention. Default: the choice of transformers."
    )
    max_length: Positive | None = Field(
        None, description="Tokens of a text that are read; the tokens of images do not count."
    )

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fits(self) -> VLMSpec:
        if (self.build is None) == (self.model is None):
            raise ValueError("give either `build` or `model`, not both")
        if self.revision and not self.model:
            raise ValueError("`revision` needs a `model`: it is a revision of that model")
        if self.build:
            if self.hidden % (2 * self.heads):
                raise ValueError(
                    f"hidden: {self.hidden} is not a multiple of 2 × heads, {2 * self.heads}; change one of them"
                )
            if self.side % (self.patch * self.merge):
                raise ValueError(
                    f"size: {self.side} is not a multiple of patch × merge, {self.patch * self.merge}; change one"
                )
        return self

    @property
    def side(self) -> int:
        """Side in pixels of the square images of a model from scratch."""
        return self.size or 56


class Lora(LoraSpec):
    """`lora:` of a vision-language model."""

    modules: tuple[Annotated[str, Field(pattern=r"^\w+$")], ...] = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        min_length=1,
        description="Last names of the linear layers that get an adapter.",
    )
    vision: bool = Field(False, description="Adapt the vision tower too, not only the language model.")

    @model_validator(mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        modules = value.get("modules") if isinstance(value, dict) else None
        return {**value, "modules": tuple(modules)} if isinstance(modules, list) else value


class Instructions(Section):
    """Texts before a query and before a document, after leading images. Default: none."""

    query: str | None = Field(None, description="Text before each query.")
    document: str | None = Field(None, description="Text before each document.")


class Share(Instructions):
    """How a training set takes part: its weight among the sets, and instructions that replace the encoder's."""

    weight: Annotated[float, Field(gt=0)] = Field(
        1.0, description="How often a sub-batch comes from this set, relative to the others."
    )


class View(Section):
    """View options: one instruction for every input, or one each for queries and documents, for example in retrieval."""

    instruction: str | None = Field(None, description="Instruction of every input, in your own words.")
    role: Literal["query", "document"] | None = Field(None, description="Role whose instruction every input gets.")
    query: str | None = Field(None, description="Instruction of queries; replaces the encoder's.")
    document: str | None = Field(None, description="Instruction of documents; replaces the encoder's.")


class Spec(EncoderSpec):
    """`encoder:` of the family vlm2vec."""

    View = View
    accepts_mixed_inputs = True
    has_source_prompts = True
    pictures = {"retrieved": "plots:draw_retrieved"}

    family: Literal["vlm2vec"]
    backbone: VLMSpec = Field(description="Hub id, folder, or {build: idefics3} for a small model from scratch.")
    instructions: Instructions = Field(default=Instructions(), description="Instructions of queries and documents.")
    sets: dict[str, Data] = Field(default={}, description="Further training sets besides `data`, by name.")
    mixture: dict[str, Share] = Field(
        default={}, description="Weight and instructions by set; `data` is the recipe's own data."
    )
    sub_batch: Positive = Field(default=64, description="Consecutive rows from one set, if there are several sets.")
    lora: Lora | None = Field(default=None, description="Low-rank adapter. Default: train every weight.")
    freeze_vision: bool = Field(default=False, description="Do not train the vision tower.")
    temperature: Annotated[float, Field(gt=0)] = Field(default=0.02, description="Cosines are divided by it.")
    symmetric: bool = Field(default=False, description="Also train documents to find their queries.")
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None, description="Dropout rate. Default: the backbone's own."
    )
    chunk: Positive | Literal["auto", "whole"] = Field(
        default="auto",
        description="Inputs whose activations are in memory at once (GradCache runs them twice); auto: by free memory.",
    )
    gradient_checkpointing: bool = Field(default=False, description="Recompute activations in the backward pass.")

    @model_validator(mode="after")
    def _fits(self) -> Spec:
        set_names = ["data", *self.sets]
        if unknown_names := sorted(self.mixture.keys() - set(set_names)):
            raise ValueError(f"mixture: there is no set {unknown_names[0]!r}; there are: {', '.join(set_names)}")
        if "data" in self.sets:
            raise ValueError("sets: `data` is the name of the recipe's own data; rename this set")
        if self.lora and self.lora.keep == "adapter" and self.backbone.build:
            raise ValueError("lora.keep: an adapter needs a published backbone; with `build`, use keep: merged")
        return self

    @classmethod
    def choose_training_defaults(cls, section: Mapping[str, Any]) -> Mapping[str, Any]:
        """A far higher rate for a model from scratch and for an adapter than for all weights of a pretrained model."""
        backbone = section.get("backbone")
        if isinstance(backbone, Mapping) and backbone.get("build"):
            return SCRATCH_TRAINING
        return {"learning_rate": 1e-4} if section.get("lora") else {"learning_rate": 2e-5}

    @property
    def epoch_rule(self) -> EpochRule:
        """Many epochs from random weights, a few of a pretrained model."""
        return SCRATCH_EPOCHS if self.backbone.build else PRETRAINED_EPOCHS

    @property
    def modalities(self) -> tuple[str, ...]:
        """Inputs are texts, images, or mixtures of both."""
        return ("text", "image")

    @property
    def extras(self) -> tuple[str, ...]:
        """Return `image`, and `lora` if the recipe trains an adapter."""
        return ("image", "lora") if self.lora else ("image",)

    def roles(self) -> tuple[Roles, Roles]:
        """Return the columns of query, positive and negatives: all optional, each a text, images or both."""
        return {}, ROLES

    def list_unused_fields(self, has_validation: bool) -> set[str]:
        """The sizes of a model from scratch if there is none, and how several sets are mixed if there is one."""
        sizes = ("hidden", "layers", "vision_layers", "heads", "patch", "merge", "vocab_size")
        unused = set() if self.backbone.build else {f"backbone.{name}" for name in sizes}
        return unused if self.sets else unused | {"sub_batch", "mixture.data.weight"}

    def describe_row_needs(self, columns: Container[str]) -> RowNeeds:
        """Rows or hard negatives to compare with. Rows of several sets are mixed, so no set needs different rows."""
        query, positive, negative = (
            tuple(name for role in (side, f"{side}_image") for name in (role, MMEB_COLUMNS[role][0]))
            for side in ("query", "positive", "negative")
        )
        needs = RowNeeds.in_batch(query, positive, tuple(name for name in negative if name in columns))
        return needs._replace(distinct=()) if self.sets else needs

    def extra_datasets(self) -> Mapping[tuple[str, ...], ExtraDataset]:
        """Return the further sets, which have the columns of `data`."""
        return {("sets", name): ExtraDataset(data, *self.roles(), use="training") for name, data in self.sets.items()}

    @property
    def adapter_folder(self) -> str | None:
        """The folder of the adapter, if the model folder holds one instead of all weights."""
        return ADAPTER_FOLDER if self.lora and self.lora.keep == "adapter" else None

    def find_mistakes(self, folder: Path) -> list[Mistake]:
        """Report a backbone that does not exist or whose architecture is not supported."""
        problem = find_backbone_problem(self.backbone, folder)
        return [(("backbone",), problem)] if problem else []

    def find_list_mistakes(self) -> list[Mistake]:
        """Refuse further sets beside a list of sources."""
        return (
            [(("sets",), "`data` is a list: write the further sets into it, and leave `sets` out")] if self.sets else []
        )

    def find_view_mistake(self, view: Mapping[str, Any], folder: Path) -> str | None:
        """Report `instruction` together with another option, because it already covers every input."""
        options = [name for name in View.model_fields if view.get(name) is not None]
        other_options = [name for name in options if name != "instruction"]
        if other_options and "instruction" in options:
            return f"give `instruction` or `{other_options[0]}`, not both"
        return None


def find_backbone_problem(spec: VLMSpec, folder: Path) -> str | None:
    """Return what is wrong with a local backbone, or None. A backbone on the Hub is not downloaded."""
    if spec.model is None:
        return None
    try:
        model_folder = locate(spec.model, folder)
        if model_folder is None:
            return None
        if not (model_folder / "config.json").is_file():
            return f"{spec.model}: has no config.json, so it is not a model of transformers"
        config = read_settings(model_folder / "config.json")
        architecture = get_architecture(str(config.get("model_type")))
        weights_look.check(spec.model, model_folder, config)
        if spec.size:
            architecture.compute_size_settings(spec.size, read_settings(model_folder / "preprocessor_config.json"))
    except ZooError as error:
        return str(error)
    return None
