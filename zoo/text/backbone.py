"""Pretrained Transformer backbones: where they come from, how deep they may be cut, what their blocks put out.

A cut shares every tensor with the whole model; how an architecture is cut is in `architectures`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.artefact import preflight, tensors
from zoo.core import atomic_files
from zoo.core.errors import ZooError
from zoo.core.lazy import lazy
from zoo.hub.fetch import fetch
from zoo.hub.model_references import PACKAGES, locate, public_id
from zoo.text import tokenizer_checks
from zoo.text.architectures import Depth, adapter, longest

if TYPE_CHECKING:
    import sentence_transformers
    import torch
    import transformers
else:
    torch, transformers, sentence_transformers = map(lazy, ("torch", "transformers", "sentence_transformers"))


def _shallow(module: torch.nn.Module) -> torch.nn.Module:
    """A copy of the container alone: same tensors and children, but adding or cutting children leaves the original be."""
    twin = copy.copy(module)
    for registry in ("_modules", "_parameters", "_buffers"):
        twin.__dict__[registry] = dict(module.__dict__[registry])
    return twin


@dataclass(frozen=True)
class Backbone:
    """A Transformer, its tokenizer and how its token states become one vector.

    Attributes:
        model: a stock transformers encoder.
        transformer: the stock sentence-transformers module that held it, for saving.
        pooling: a stock sentence-transformers Pooling.
        max_length: in tokens.
        name, revision: where it came from, for lock.json.
        prompts: what it was trained to see before a "query" or a "document"; {} for most.
    """

    model: transformers.PreTrainedModel
    transformer: torch.nn.Module
    pooling: torch.nn.Module
    max_length: int
    name: str
    revision: str
    prompts: Mapping[str, str] = field(default_factory=dict)

    @property
    def tokenizer(self) -> transformers.PreTrainedTokenizerBase:
        """Fast tokenizer; truncates at `max_length` tokens."""
        return self.transformer.tokenizer  # type: ignore[return-value]

    def transformer_module(self) -> torch.nn.Module:
        """The sentence-transformers Transformer around this backbone, at this depth."""
        twin = _shallow(self.transformer)
        twin._modules["model"] = self.model
        return twin

    @property
    def adapter(self) -> Depth:
        """How this architecture is cut."""
        return adapter(self.model.config.model_type)

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self._blocks())

    @property
    def width(self) -> int:
        """Components of a pooled vector."""
        return self.pooling.get_embedding_dimension()  # type: ignore[operator]

    def _blocks(self) -> torch.nn.ModuleList:
        return self.model.get_submodule(self.adapter.blocks)  # type: ignore[return-value]

    def cut(self, layers: int) -> Backbone:
        """The first `layers` blocks as a model of its own, config included, that shares every tensor."""
        adapter = self.adapter
        model: Any = _shallow(self.model)
        holder, path = model, adapter.blocks.split(".")
        for step in path[:-1]:
            child = _shallow(holder.get_submodule(step))
            holder._modules[step] = child
            holder = child
        holder._modules[path[-1]] = torch.nn.ModuleList(list(self._blocks())[:layers])
        config = copy.deepcopy(self.model.config)
        setattr(config, adapter.count, layers)
        for entry in adapter.lists:
            setattr(config, entry, list(getattr(config, entry))[:layers])
        model.config = config
        return replace(self, model=model)

    def states(self, batch: Mapping[str, torch.Tensor], layers: Sequence[int]) -> list[torch.Tensor]:
        """Pooled outputs (batch, width) of the blocks `layers` (1 = the first block), from one forward pass, equal to what
        `cut(n)` puts out for each."""
        blocks, kept = self._blocks(), {}

        def keep(number: int) -> Any:
            def hook(_module: Any, _args: Any, output: Any) -> None:
                kept[number] = output[0] if isinstance(output, tuple) else output

            return hook

        inner = [n for n in layers if n < len(blocks)]
        hooks = [blocks[n - 1].register_forward_hook(keep(n)) for n in inner]
        try:
            last = self.model(**batch).last_hidden_state
        finally:
            for hook in hooks:
                hook.remove()
        norm = self.model.get_submodule(self.adapter.norm) if self.adapter.norm else None
        tokens = [last if n not in kept else norm(kept[n]) if norm else kept[n] for n in layers]
        return [self.pool(each, batch["attention_mask"]) for each in tokens]

    def pool(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Token states (batch, tokens, width) to (batch, width)."""
        return self.pooling({"token_embeddings": tokens, "attention_mask": mask})["sentence_embedding"]

    def set_dropout(self, rate: float) -> None:
        """Set every dropout of the Transformer, the attention's own included."""
        for module in self.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = rate
            for name in ("dropout_prob", "attention_dropout", "attention_probs_dropout_prob"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, rate)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text with special tokens, truncated, not padded."""
        with tokenizer_checks.told(f"backbone {self.name}: its tokenizer does not take a text"):
            return self.tokenizer(list(texts), truncation=True, max_length=self.max_length)["input_ids"]

    def chunks(self, texts: Sequence[str], size: int) -> Iterator[tuple[dict[str, torch.Tensor], list[int]]]:
        """Texts as padded batches of `size` of similar length, each with the places its rows have in `texts`."""
        ids = self.tokenize(texts)
        order = sorted(range(len(texts)), key=lambda i: len(ids[i]))
        for start in range(0, len(order), size):
            places = order[start : start + size]
            yield self.pad([ids[i] for i in places]), places

    def pad(self, ids: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        """Rows of token ids to right-padded int64 tensors input_ids and attention_mask (rows, longest row)."""
        return dict(
            self.tokenizer.pad({"input_ids": [list(row) for row in ids]}, return_tensors="pt", padding_side="right")
        )


def pooled(body: Backbone, head: torch.nn.Module | None, dim: int) -> torch.nn.Module:
    """One module from a batch of tokens to unit vectors (batch, dim): the backbone, its pooling, an optional linear head."""

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.pooling, self.head = body.model, body.pooling, head

        def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            tokens = self.model(**batch).last_hidden_state
            features = {"token_embeddings": tokens, "attention_mask": batch["attention_mask"]}
            vectors = self.pooling(features)["sentence_embedding"]
            vectors = vectors if self.head is None else self.head(vectors)
            return torch.nn.functional.normalize(vectors[:, :dim].float(), dim=-1)

    return Pooled()


def load(
    reference: str, *, revision: str | None = None, folder: Path = Path(), max_length: int | None = None
) -> Backbone:
    """Open a backbone by Hub id, folder or `package:NAME`: safetensors only, no code but that of the installed libraries.

    A model of the Hub is fetched from one commit. Raises ZooError when it is not there, its weights are not the ones
    expected, or it has modules beyond Transformer, Pooling and Normalize.
    """
    local = locate(reference, folder)
    where = local or fetch(reference, revision)
    weights = where / "model.safetensors"
    found = where.name  # the cache names a snapshot after its commit
    if local:
        found = atomic_files.sha256(weights) if weights.exists() else ""
    if reference.startswith("package:"):
        shipped = PACKAGES[reference.removeprefix("package:")]
        if found != shipped.sha256:
            raise ZooError(
                f"{reference}: model.safetensors has sha256 {found[:12]}…, not {shipped.sha256[:12]}… of {shipped.model_id}"
            )
    preflight.check_sizes(where, {})
    preflight.check(where)
    body = _open(where, reference)
    if max_length and (most := longest(body.model.config.to_dict())) and max_length > most:
        raise ZooError(
            f"backbone {reference}: max_length {max_length} is more than the {most} tokens it has positions for"
        )
    limit = tokenizer_checks.of(body.transformer, reference, max_length)
    body.tokenizer.model_max_length = limit
    return replace(body, max_length=limit, name=public_id(reference) or reference, revision=found)


def read(folder: Path, name: str) -> Backbone:
    """Open a backbone that an artefact holds; its tensors must be exactly those of its config, and finite."""
    body = _open(folder, name, ("Normalize", "Dense"))  # the family reads its own Dense
    tensors.fill(body.model, tensors.read(folder), folder)
    return replace(body, name=public_id(name) or name, revision="")


@contextmanager
def without_bars() -> Iterator[None]:
    """No progress bars of transformers for what takes a moment: reading and writing local weights."""
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers.utils.logging.enable_progress_bar()


def _open(path: Path, reference: str, after: tuple[str, ...] = ("Normalize",)) -> Backbone:
    how = adapter(preflight.read_model_type(path))
    preflight.check_transformer(path, how.blocks, how.count)
    try:
        with without_bars(), tokenizer_checks.told(f"backbone {reference}: cannot be opened"):
            model = sentence_transformers.SentenceTransformer(
                str(path),
                device="cpu",
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True, "dtype": "float32"},
            )
    except ZooError:
        raise
    except Exception as error:  # whatever the libraries make of a file that is not what it says
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ZooError(f"backbone {reference}: cannot be opened: {first}") from error
    parts: list[Any] = list(model)
    kinds = [type(part).__name__ for part in parts]
    if kinds[:2] != ["Transformer", "Pooling"] or set(kinds[2:]) - set(after):
        raise ZooError(
            f"backbone {reference}: has the modules {', '.join(kinds)}; only Transformer, Pooling, Normalize can be cut"
        )
    adapter(parts[0].auto_model.config.model_type)
    if model.default_prompt_name:
        raise ZooError(
            f"backbone {reference}: puts its prompt {model.default_prompt_name!r} before every text, which is not supported; "
            "save it with default_prompt_name=None and say in `prompts` what stands before a query and a document"
        )
    if parts[0].tokenizer.pad_token_id is None:
        raise ZooError(f"backbone {reference}: its tokenizer has no padding token, so texts cannot be batched")
    if parts[0].tokenizer.truncation_side != "right":
        raise ZooError(f"backbone {reference}: its tokenizer cuts long texts on the left; only the right is supported")
    limit = tokenizer_checks.of(parts[0], reference)
    return Backbone(parts[0].auto_model, parts[0], parts[1], limit, reference, "", _prompts(model.prompts))


def _prompts(named: Mapping[str, str | None]) -> dict[str, str]:
    """By role, as sentence-transformers finds them: that of a document is the first there is of three."""
    names = {"query": ("query",), "document": ("document", "passage", "corpus")}
    found = {role: next((named[name] for name in some if name in named), None) for role, some in names.items()}
    return {role: prompt for role, prompt in found.items() if prompt}
