"""Pretrained Transformer backbones: how they are opened, how deep they are, and what their blocks compute.

A backbone that is cut shares every tensor with the whole one. `architectures` says how an architecture is cut.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from zoo.artefact import preflight, pretrained_model, tensors, transformer_folder, weight_names
from zoo.core import faults
from zoo.core.errors import UncuttableError, ZooError
from zoo.hub.fetch import fetch
from zoo.hub.model_references import PACKAGES, find_hub_id, locate
from zoo.text import coded_folder, padding, pooling, stock_modules, tokenizer_checks
from zoo.text.architectures import (
    DEPTH_ADAPTERS,
    DepthAdapter,
    compute_max_length,
    get_class_name,
    get_depth_adapter,
)
from zoo.text.containers import copy_container

if TYPE_CHECKING:
    import transformers


@dataclass(frozen=True)
class Backbone:
    """A Transformer, its tokenizer, and its pooling.

    Attributes:
        model: a transformers encoder.
        transformer: the sentence-transformers module that held `model`, for saving.
        pooling: a sentence-transformers Pooling.
        max_length: in tokens.
        name, revision: where it came from, for lock.json.
        prompts: what it was trained to read before a "query" or a "document"; {} for most.
        linear_maps: further linear maps of sentence-transformers after the pooling, each with its activation; () for most.
        normalizes: whether its own vectors have unit norm; None if its folder does not say.
        named_prompts: all its prompts by their own names.
        default_prompt: the name of the prompt that is put before a text without a role; None for most.
        similarity: what its folder compares vectors with, for example "cosine"; None if it does not say.
    """

    model: transformers.PreTrainedModel
    transformer: torch.nn.Module
    pooling: torch.nn.Module
    max_length: int
    name: str
    revision: str
    prompts: Mapping[str, str] = field(default_factory=dict)
    linear_maps: tuple[torch.nn.Module, ...] = ()
    normalizes: bool | None = None
    named_prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    similarity: str | None = None

    @property
    def tokenizer(self) -> transformers.PreTrainedTokenizerBase:
        """Fast tokenizer; truncates at `max_length` tokens."""
        return self.transformer.tokenizer  # type: ignore[return-value]

    def build_transformer_module(self) -> torch.nn.Module:
        """Build the sentence-transformers Transformer around this backbone at this depth."""
        module: torch.nn.Module = copy_container(self.transformer)
        module._modules["model"] = self.model
        return module

    @property
    def adapter(self) -> DepthAdapter:
        """How this architecture is cut."""
        return get_depth_adapter(self.model.config.model_type)

    @property
    def depth(self) -> int:
        """Number of blocks."""
        if self.model.config.model_type in DEPTH_ADAPTERS:
            return len(self._blocks())
        return int(self.model.config.num_hidden_layers)

    @property
    def width(self) -> int:
        """Components of a vector, after pooling and `linear_maps`."""
        last: Any = self.linear_maps[-1] if self.linear_maps else self.pooling
        return int(last.out_features if self.linear_maps else last.get_embedding_dimension())

    def _blocks(self) -> torch.nn.ModuleList:
        return self.model.get_submodule(self.adapter.blocks)  # type: ignore[return-value]

    def cut(self, layers: int) -> Backbone:
        """Return the first `layers` blocks as a backbone of its own, config included, that shares every tensor."""
        adapter = self.adapter
        model: Any = copy_container(self.model)
        parent, path = model, adapter.blocks.split(".")
        for name in path[:-1]:
            child = copy_container(parent.get_submodule(name))
            parent._modules[name] = child
            parent = child
        parent._modules[path[-1]] = torch.nn.ModuleList(list(self._blocks())[:layers])
        config = copy.deepcopy(self.model.config)
        setattr(config, adapter.count, layers)
        for entry in adapter.lists:
            if (
                getattr(config, entry, None) is not None
            ):  # newer versions of an architecture list what older ones do not
                setattr(config, entry, list(getattr(config, entry))[:layers])
        model.config = config
        return replace(self, model=model)

    def compute_states(self, batch: Mapping[str, torch.Tensor], layers: Sequence[int]) -> list[torch.Tensor]:
        """Compute the pooled outputs (batch, width) of the blocks `layers` in one forward pass; 1 is the first block.

        The output of block n equals what `cut(n)` computes.
        """
        blocks, outputs = self._blocks(), {}

        def make_hook(layer: int) -> Any:
            def store_output(_module: Any, _args: Any, output: Any) -> None:
                outputs[layer] = output[0] if isinstance(output, tuple) else output

            return store_output

        hooks = [blocks[n - 1].register_forward_hook(make_hook(n)) for n in layers if n < len(blocks)]
        try:
            last = self.model(**batch).last_hidden_state
        finally:
            for hook in hooks:
                hook.remove()
        norm = self.model.get_submodule(self.adapter.norm) if self.adapter.norm else None
        pooled = []
        for n in layers:
            states = outputs.get(n, last)
            if norm is not None and n in outputs:  # `last` has passed the norm
                states = norm(states)
            pooled.append(self.pool(states, batch["attention_mask"]))
        return pooled

    def pool(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Pool token states (batch, tokens, width) to (batch, width)."""
        pooled: torch.Tensor = self.pooling({"token_embeddings": states, "attention_mask": mask})["sentence_embedding"]
        return pooled

    def compute_vectors(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Compute vectors (batch, width) at the whole depth: pooled and mapped by `linear_maps`, not normalised."""
        pooled = self.pool(self.model(**batch).last_hidden_state, batch["attention_mask"])
        return apply_linear_maps(self.linear_maps, pooled)

    def set_dropout(self, rate: float) -> None:
        """Set the rate of every dropout in the Transformer, including that of attention."""
        for module in self.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = rate
            for name in ("dropout_prob", "attention_dropout", "attention_probs_dropout_prob"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, rate)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text with special tokens, truncated, not padded."""
        with tokenizer_checks.as_zoo_error(f"backbone {self.name}: its tokenizer does not take a text"):
            ids: list[list[int]] = self.tokenizer(list(texts), truncation=True, max_length=self.max_length)["input_ids"]
        return ids

    def iterate_batches(self, texts: Sequence[str], size: int) -> Iterator[tuple[dict[str, torch.Tensor], list[int]]]:
        """Yield padded batches of `size` texts of similar length, and the positions of these texts in `texts`."""
        ids = self.tokenize(texts)
        order = sorted(range(len(texts)), key=lambda i: len(ids[i]))
        for start in range(0, len(order), size):
            places = order[start : start + size]
            yield self.pad([ids[i] for i in places]), places

    def pad(self, ids: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        """Pad rows of token ids on the right to int64 tensors input_ids and attention_mask (rows, longest row)."""
        return padding.pad(ids, int(self.tokenizer.pad_token_id or 0))


def apply_linear_maps(linear_maps: Iterable[Any], vectors: torch.Tensor) -> torch.Tensor:
    """Apply the linear maps of sentence-transformers, one after another, to vectors (batch, width)."""
    for module in linear_maps:
        vectors = module({"sentence_embedding": vectors})["sentence_embedding"]
    return vectors


class PooledBackbone(torch.nn.Module):
    """One module from a batch of tokens to vectors (batch, dim): backbone, pooling, linear maps, and an optional head.

    The vectors have unit norm unless `normalizes` is false.
    """

    def __init__(self, backbone: Backbone, head: torch.nn.Module | None, dim: int, *, normalizes: bool = True) -> None:
        super().__init__()
        self.model, self.pooling, self.head, self.dim = backbone.model, backbone.pooling, head, dim
        self.linear_maps, self.normalizes = torch.nn.ModuleList(backbone.linear_maps), normalizes
        self._modes = pooling.read_modes(backbone.pooling)

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Encode the tensors that `Backbone.pad` makes."""
        states = self.model(**batch).last_hidden_state
        vectors = apply_linear_maps(self.linear_maps, self._pool(states, batch["attention_mask"]))
        vectors = (vectors if self.head is None else self.head(vectors))[:, : self.dim].float()
        return torch.nn.functional.normalize(vectors, dim=-1) if self.normalizes else vectors

    def _pool(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Pool states (batch, tokens, width), in their precision if a linear layer follows."""
        if self._modes is None:
            pooled: torch.Tensor = self.pooling({"token_embeddings": states, "attention_mask": mask})[
                "sentence_embedding"
            ]
            return pooled
        # a graph that is traced must take any mask
        is_traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        is_full = not is_traced and not torch.compiler.is_compiling() and bool(mask.all())
        vectors = pooling.pool(states, None if is_full else mask, self._modes)
        return vectors if self.head is None and not self.linear_maps else vectors.to(states.dtype)


def load(
    reference: str,
    *,
    revision: str | None = None,
    folder: Path = Path(),
    max_length: int | None = None,
    can_be_cut: bool = True,
    model_options: Mapping[str, Any] | None = None,
) -> Backbone:
    """Open a backbone by Hub id, folder or `package:NAME`.

    Only safetensors are read, and only code of installed libraries runs. A model of the Hub is fetched from one commit.

    Args:
        can_be_cut: whether the backbone must have a depth adapter, and no modules but Transformer, Pooling and Normalize. If
            not, any architecture that `transformers.AutoModel` opens will do, and Dense modules as well.
        model_options: further arguments of `from_pretrained`, for example a quantisation.

    Raises ZooError if the model is not there, if packaged weights are not the expected ones, if `max_length` is beyond the
    model's positions, or if the model has other modules.
    """
    local_folder = locate(reference, folder)
    model_folder = local_folder or fetch(reference, revision)
    coded_folder.refuse(model_folder, reference)
    found_revision = model_folder.name  # the cache names a snapshot after its commit
    if local_folder:
        found_revision = compute_weights_digest(model_folder)
    if reference.startswith("package:"):
        package = PACKAGES[reference.removeprefix("package:")]
        if found_revision != package.sha256:
            raise ZooError(
                f"{reference}: model.safetensors has sha256 {found_revision[:12]}…, not {package.sha256[:12]}… of "
                f"{package.model_id}; reinstall the package"
            )
    preflight.check_sizes(model_folder, {})
    preflight.check(model_folder)
    backbone = _open(model_folder, reference, can_be_cut=can_be_cut, model_options=model_options)
    positions = compute_max_length(backbone.model.config.to_dict())
    if max_length and positions and max_length > positions:
        raise ZooError(
            f"backbone {reference}: max_length {max_length} is more than the {positions} tokens it has positions for"
        )
    limit = tokenizer_checks.check_tokenizer(backbone.transformer, reference, max_length)
    backbone.tokenizer.model_max_length = limit
    return replace(backbone, max_length=limit, name=find_hub_id(reference) or reference, revision=found_revision)


def load_from_model_folder(
    folder: Path, name: str, *, can_be_cut: bool = True, has_token_vectors: bool = False, table: Any = None
) -> Backbone:
    """Open the backbone in a model folder. Its tensors must be exactly those of its config, and finite.

    `table` is the entry of the `zoo` block about a coded token table, or None. The table then stays coded in memory.

    Without `can_be_cut` the architecture is any that `transformers.AutoModel` opens. With `has_token_vectors` the folder is that
    of a MultiVectorEncoder, whose Dense is left out of the result and whose pooling is the mean.
    """
    if table is not None:
        with coded_folder.open_stand_in(folder, table) as stand_in:
            complete = partial(coded_folder.fill, folder=folder, entry=table)
            backbone = _open(stand_in, name, is_model_folder=True, can_be_cut=can_be_cut, complete=complete)
        return replace(backbone, name=find_hub_id(name) or name, revision="")
    backbone = _open(folder, name, is_model_folder=True, can_be_cut=can_be_cut, has_token_vectors=has_token_vectors)
    pretrained_model.fill(backbone.model, tensors.read(folder), folder)
    return replace(backbone, name=find_hub_id(name) or name, revision="")


def compute_weights_digest(model_folder: Path) -> str:
    """Return the sha256 of the weights in a folder of sentence-transformers or transformers."""
    return tensors.compute_digest(transformer_folder.find_transformer(model_folder))


@contextmanager
def hide_progress_bars() -> Iterator[None]:
    """Hide the progress bars of transformers inside the block: reading and writing local weights takes a moment."""
    import transformers

    transformers_logging: Any = transformers.utils.logging  # it has no annotations
    were_shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if were_shown:
            transformers_logging.enable_progress_bar()


def _open(
    folder: Path,
    reference: str,
    *,
    is_model_folder: bool = False,
    can_be_cut: bool = True,
    has_token_vectors: bool = False,
    model_options: Mapping[str, Any] | None = None,
    complete: Callable[[Any], None] | None = None,
) -> Backbone:
    """Open the modules of sentence-transformers. In a model folder that can be cut, the family reads its own Dense.

    `complete` changes the transformers model before it is checked.
    """
    model_type = transformer_folder.read_model_type(folder)
    class_name = get_class_name(model_type)
    adapter = get_depth_adapter(model_type) if can_be_cut else DEPTH_ADAPTERS.get(model_type)
    blocks, count = (adapter.blocks, adapter.count) if adapter else (None, "")
    tensor_names = transformer_folder.check(folder, blocks, count, class_name)
    if not is_model_folder:
        weight_names.tell(reference, tensor_names)
    import sentence_transformers  # it imports for seconds, so encoding does without it where it can

    library: Any = (
        sentence_transformers.MultiVectorEncoder if has_token_vectors else sentence_transformers.SentenceTransformer
    )
    model = _open_sentence_transformer(library, folder, reference, tensor_names.key_mapping, model_options or {})
    modules: list[Any] = list(model)
    if has_token_vectors:
        modules = stock_modules.replace_token_modules(reference, modules)
    stock_modules.check_modules(reference, [type(module).__name__ for module in modules], is_model_folder, can_be_cut)
    transformer, pooling = modules[:2]
    if complete is not None:
        complete(transformer.auto_model)
    pretrained_model.save_under_own_names(transformer.auto_model)
    if can_be_cut:
        get_depth_adapter(transformer.auto_model.config.model_type)
    if model.default_prompt_name and can_be_cut:
        raise UncuttableError(
            f"backbone {reference}: puts its prompt {model.default_prompt_name!r} before every text, which is not supported; "
            "save it with default_prompt_name=None and give the prompts of a query and a document in `prompts`"
        )
    tokenizer_checks.prepare_tokenizer(transformer, reference, transformer_folder.find_transformer(folder))
    limit = tokenizer_checks.check_tokenizer(transformer, reference)
    says_all = (folder / "modules.json").exists()
    return Backbone(
        transformer.auto_model,
        transformer,
        pooling,
        limit,
        reference,
        "",
        stock_modules.find_prompts(model.prompts),
        linear_maps=tuple(module for module in modules if type(module).__name__ == "Dense") if not can_be_cut else (),
        normalizes=type(modules[-1]).__name__ == "Normalize" if says_all else None,
        named_prompts={name: prompt for name, prompt in model.prompts.items() if prompt},
        default_prompt=model.default_prompt_name,
        similarity=model._similarity_fn_name if says_all else None,
    )


def _open_sentence_transformer(
    library: Any, folder: Path, reference: str, key_mapping: Mapping[str, str], options: Mapping[str, Any]
) -> Any:
    try:
        with hide_progress_bars(), tokenizer_checks.as_zoo_error(f"backbone {reference}: cannot be opened"):
            return library(
                str(folder),
                device="cpu",
                trust_remote_code=False,
                local_files_only=True,
                token=False,
                model_kwargs={"use_safetensors": True, "dtype": "float32", "key_mapping": dict(key_mapping), **options},
            )
    except ZooError:
        raise
    except Exception as error:  # the libraries raise many types for files that are damaged
        faults.refuse_full_memory(error, f"backbone {reference}")
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ZooError(f"backbone {reference}: cannot be opened: {first_line}") from error
