"""An encoder over a Transformer backbone that is cut, in layers and in dimensions, when it is loaded: its views, its files.

A family that trains such an encoder derives from `TruncatableEncoder` and says how.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field

from zoo.core.errors import ArtefactError, ZooError
from zoo.core.inputs import check_texts
from zoo.core.lazy import lazy
from zoo.encoder import Encoder as BaseEncoder
from zoo.schema import EncoderSpec, Positive, Section
from zoo.text import architectures, backbone, model_references, sentence_transformers_format
from zoo.text import engine as encoding
from zoo.text.backbone import Backbone

if TYPE_CHECKING:
    import numpy as np
    import torch
else:
    np, torch = lazy("numpy"), lazy("torch")


ROLES = ("query", "document")


class TruncatableSpec(EncoderSpec):
    """The part of `encoder:` that names the backbone."""

    backbone: Annotated[str, Field(min_length=1, description="Hub id, folder, or package:NAME.")]
    revision: str | None = None
    max_length: Positive | None = Field(default=None, description="Tokens; by default the backbone's own limit.")
    prompts: dict[Literal["query", "document"], str] | None = Field(
        default=None, description="What stands before a text in training and evaluation; by default the backbone's own."
    )


class View(Section):
    """A cut: the first `layers` blocks, the first `dim` components."""

    layers: Positive | None = Field(None, description="Blocks that are run.")
    dim: Positive | None = Field(None, description="Components that are kept.")


class TruncatableEncoder(BaseEncoder):
    """A backbone and linear heads whose every (layers, dim) corner is an encoder. Vectors have unit norm at every cut.

    Attributes:
        backbone: the whole backbone this encoder holds.
        heads: optional linear maps by layer; absent ones are the identity.
        prompts: what `encode` puts before a text that is said to be a "query" or a "document".
        layers, dim: the corner that `encode` uses; `truncate` gives another one over the same tensors.
    """

    View = View

    def __init__(
        self,
        spec: TruncatableSpec,
        body: Backbone,
        heads: Mapping[int, torch.nn.Linear] | None = None,
        dim: int | None = None,
    ) -> None:
        super().__init__()
        self.spec: TruncatableSpec = spec
        given: Mapping[Any, str] = body.prompts if spec.prompts is None else spec.prompts
        self.prompts: dict[str, str] = dict(given)
        if any(self.prompts.values()) and not body.pooling.include_prompt:
            raise ZooError(
                f"backbone {body.name}: leaves prompts out of its pooling, which is not supported; say prompts: {{}}"
            )
        self.backbone = replace(body, prompts=self.prompts)
        self.heads = torch.nn.ModuleDict({str(n): head for n, head in (heads or {}).items()})
        self.module = torch.nn.ModuleDict({"backbone": body.model, "heads": self.heads})
        self.layers, self.dim = body.depth, dim or body.width
        self._width = self.dim
        self._runner: encoding.Engine | None = None
        self._shared: _Pass | None = None
        self.backbone_name, self.backbone_revision = body.name, body.revision
        for name, parameter in body.model.named_parameters():
            parameter.requires_grad_(
                not name.startswith("pooler.")
            )  # kept for those who load the file, never used here

    # -- before torch ----------------------------------------------------------------------------------------------

    @classmethod
    def check(cls, spec: Any, folder: Path) -> list[tuple[tuple[str | int, ...], str]]:
        """A backbone that is not there or cannot be cut, and more tokens than it has positions for."""
        try:
            config = cls._config(spec, folder)
            if config is None:
                return []
            architectures.read_depth_and_width(config)
            most = architectures.compute_max_length(config)
        except (ZooError, OSError, ValueError, KeyError) as error:
            return [(("backbone",), str(error))]
        if spec.max_length and most and spec.max_length > most:
            return [
                (("max_length",), f"{spec.max_length} is more than the {most} tokens that {spec.backbone} can read")
            ]
        return []

    @classmethod
    def check_view(cls, spec: Any, view: Mapping[str, Any], folder: Path) -> str | None:
        """A cut deeper or wider than the backbone."""
        try:
            size = cls.size(spec, folder)
        except (ZooError, OSError, ValueError, KeyError):  # `check` says so
            size = None
        return _misfit(view.get("layers"), view.get("dim"), *size) if size else None

    @classmethod
    def size(cls, spec: TruncatableSpec, folder: Path) -> tuple[int, int] | None:
        """(depth, width) of a local backbone from its config.json; None for one on the Hub."""
        config = cls._config(spec, folder)
        return None if config is None else architectures.read_depth_and_width(config)

    @classmethod
    def _config(cls, spec: TruncatableSpec, folder: Path) -> dict[str, Any] | None:
        local = model_references.locate(spec.backbone, folder)
        return json.loads((local / "config.json").read_text(encoding="utf-8")) if local else None

    @classmethod
    def build(cls, spec: Any, *, seed: int = 42, folder: Path = Path()) -> Self:
        """The backbone as it comes, every corner of it open."""
        body = backbone.load(spec.backbone, revision=spec.revision, folder=folder, max_length=spec.max_length)
        encoder = cls(spec, body)
        encoder.seed, encoder.folder = seed, folder
        return encoder

    # -- use -------------------------------------------------------------------------------------------------------

    def set_heads(self, heads: Mapping[int, torch.nn.Linear]) -> None:
        """Give layers their heads, from 1; those of other layers stay."""
        self._runner = None  # made of the old ones
        for n, head in heads.items():
            self.heads[str(n)] = head

    def head(self, layer: int, vectors: torch.Tensor) -> torch.Tensor:
        """Pooled vectors (..., d) of a layer through its head, if it has one."""
        return self.heads[str(layer)](vectors) if str(layer) in self.heads else vectors

    def truncate(self, layers: int | None = None, dim: int | None = None) -> Self:
        """The encoder cut to its first `layers` blocks and `dim` components: a cheap view that shares every tensor, and
        whose vectors have unit norm. Raises ZooError for a cut that this encoder does not have."""
        wrong = _misfit(layers, dim, self.backbone.depth, self._width)
        if wrong:
            raise ZooError(wrong)
        twin = copy.copy(self)
        twin.layers, twin.dim = layers or self.layers, dim or self.dim
        twin.view_options = {"layers": twin.layers, "dim": twin.dim}
        twin._runner = twin._shared = None
        return twin

    def view(self, **options: Any) -> Self:
        """`truncate` by keyword; {} is the whole encoder."""
        unknown = set(options) - {"layers", "dim"}
        if unknown:
            raise ZooError(f"this encoder is cut by layers and dim, not by {', '.join(sorted(unknown))}")
        return self.truncate(**options)

    def views_sharing_a_pass(self, views: Sequence[Mapping[str, Any]]) -> list[Self]:
        """Views that take their vectors from one pass over each text."""
        shared = _Pass(self)
        twins = [self.view(**view) for view in views]
        for twin in twins:
            twin._shared = shared
        return twins

    def baseline(self) -> BaseEncoder | None:
        """The backbone as it was before training, or None where it cannot be had (any more)."""
        try:
            return type(self).build(self.spec, folder=self.folder)
        except ZooError:
            return None

    def encode(
        self,
        inputs: Iterable[Any],
        *,
        show_progress: bool = False,
        precision: str = "fp32",
        prompt_type: str | None = None,
    ) -> np.ndarray:
        """Texts to (n, dim) float32 of unit norm, in order, at fp32, bf16, fp16, or auto: bf16 where the hardware is fast at it.
        With `prompt_type` "query" or "document" the prompt of that role, if there is one, stands before each. Raises ZooError
        for an input that is not a string."""
        inputs = self._prompted(inputs, prompt_type)
        if self._shared is not None and precision == "fp32" and isinstance(inputs, list) and self._shared.takes(inputs):
            return self._shared.vectors(inputs, self.layers, self.dim)
        return self._engine().encode(inputs, show_progress=show_progress, precision=precision)

    def _prompted(self, inputs: Iterable[Any], role: str | None) -> Iterable[Any]:
        if role not in (None, *ROLES):
            raise ZooError(f"prompt_type: {role!r} is not one of {', '.join(ROLES)}")
        prompt = self.prompts.get(role or "")
        if not prompt:
            return inputs
        texts = (prompt + text for text in check_texts(inputs))
        return list(texts) if isinstance(inputs, list | tuple) else texts

    def encode_layers(self, texts: Sequence[str], *, batch_size: int = 32) -> dict[int, np.ndarray]:
        """Every layer's vectors (n, dim) float32 by layer, from one pass; not normalised, so that the first m components,
        normalised, are what `truncate(layer, m).encode` gives."""
        out = {n: np.empty((len(texts), self._width), dtype=np.float32) for n in range(1, self.layers + 1)}
        body = self.backbone.cut(self.layers)
        body.model.eval()
        with torch.inference_mode():
            for chunk, places in self.backbone.iterate_batches(texts, batch_size):
                for n, vectors in zip(out, body.compute_states(on(body.model.device, chunk), list(out)), strict=True):
                    out[n][places] = self.head(n, vectors)[:, : self._width].cpu().numpy()
        return out

    def stream(
        self, inputs: Iterable[Any], *, precision: str = "fp32", prompt_type: str | None = None
    ) -> Iterator[np.ndarray]:
        """`encode` in pieces of constant memory, for an iterable of any length."""
        return self._engine().stream(self._prompted(inputs, prompt_type), precision=precision)

    def _engine(self) -> encoding.Engine:
        """Built once a view: the cut backbone, pooling, head and normalisation as one module from tokens to vectors."""
        if self._runner is None:
            head = self.heads[str(self.layers)] if str(self.layers) in self.heads else None
            cut = self.backbone.cut(self.layers) if self.layers < self.backbone.depth else self.backbone
            module = backbone.PooledBackbone(cut, head, self.dim)
            self._runner = encoding.Engine(module, cut.tokenize, cut.pad, self.dim, cut.max_length)
        return self._runner

    # -- artefact --------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """The current corner as stock sentence-transformers modules; whatever lies deeper or wider is left out."""
        heads: Any = {int(n): head for n, head in self.heads.items()}
        sentence_transformers_format.write(folder, self.backbone.cut(self.layers), heads, self.dim)

    @classmethod
    def load(cls, spec: Any, folder: Path, config: Mapping[str, Any]) -> Self:
        """Open what `save` wrote; every tensor must be there, fit and be finite, and none may be left over."""
        body = backbone.load_from_model_folder(folder, spec.backbone)
        dim = config.get("dim", body.width)
        if not isinstance(dim, int) or not 1 <= dim <= body.width:
            raise ArtefactError(f"{folder}: config.json: dim {dim!r} is outside 1…{body.width}")
        encoder = cls(spec, body, sentence_transformers_format.read_heads(folder, body, dim), dim)
        encoder.module.eval()
        return encoder

    def extra_config(self) -> dict[str, Any]:
        """The widest cut that the folder holds."""
        return {"dim": self.dim}

    def card_facts(self) -> dict[str, Any]:
        """Size by depth, widths and limits, for the card."""
        inside = {n: sum(p.numel() for p in self.backbone.cut(n).model.parameters()) for n in range(1, self.layers + 1)}
        return {
            "architecture": self.backbone.model.config.model_type,
            "layers": self.layers,
            "dim": self.dim,
            "parameters": {str(n): count for n, count in inside.items()},
            "max_length": self.backbone.max_length,
            "prompts": self.prompts,
        }


class _Pass:
    """Every layer's vectors of each text seen, computed once, for as many texts as LIMIT floats hold."""

    LIMIT = 1 << 27

    def __init__(self, encoder: TruncatableEncoder) -> None:
        self.encoder = encoder
        self._rows: dict[str, list[np.ndarray]] = {}

    def takes(self, texts: list[str]) -> bool:
        """Whether these texts still fit; the engine takes what does not, and what is not a string."""
        floats = (len(self._rows) + len(texts)) * self.encoder.layers * self.encoder.dim
        return floats <= self.LIMIT and all(isinstance(text, str) for text in texts)

    def vectors(self, texts: list[str], layer: int, dim: int) -> np.ndarray:
        """(n, dim) float32 of unit norm."""
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        if new:
            layers = list(self.encoder.encode_layers(new).values())
            self._rows |= {text: [vectors[i] for vectors in layers] for i, text in enumerate(new)}
        cut = np.array([self._rows[text][layer - 1][:dim] for text in texts], dtype=np.float32).reshape(-1, dim)
        return cut / np.linalg.norm(cut, axis=1, keepdims=True)


def on(device: torch.device, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A batch on a device."""
    return {name: values.to(device) for name, values in batch.items()}


def _misfit(layers: int | None, dim: int | None, depth: int, width: int) -> str | None:
    for name, given, most in (("layers", layers, depth), ("dim", dim, width)):
        if given is not None and not 1 <= given <= most:
            return f"{name}: {given} is outside 1…{most}, which is what this encoder has"
    return None
