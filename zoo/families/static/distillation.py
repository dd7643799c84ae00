"""Token vectors of a sentence encoder in closed form.

Every token of the vocabulary runs through the encoder alone. The pooled vectors are projected on their principal components,
and each is multiplied by a weight that falls with the token's frequency (SIF: Arora et al., "A Simple but Tough-to-Beat
Baseline for Sentence Embeddings", ICLR 2017, equation 3). The method is that of model2vec (Tulkens and van Dongen, 2024).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer

from zoo.core import atomic_files
from zoo.core.errors import ZooError
from zoo.families.static import token_bag
from zoo.families.static.regression import fix_signs
from zoo.families.static.spec import Spec
from zoo.families.static.token_bag import TokenBag
from zoo.text import backbone, engine
from zoo.text.backbone import Backbone

Array = npt.NDArray[Any]
_UNUSED = re.compile(r"\[unused\d+\]")  # places that BERT's vocabulary keeps free; no text has such a token
_last_vectors: dict[str, Array] = {}  # of one backbone, because a run distils its backbone again as the baseline
_BATCH = 1024  # tokens that run through the backbone together: all of them are equally long, so nothing is padded


@dataclass(frozen=True)
class Distillation:
    """A backbone and what its tokens give.

    Attributes:
        axes: (width, components), the principal axes of the token vectors, the largest first.
        bag: the tokens and their weighted coordinates on all these axes.
    """

    body: Backbone
    axes: Array
    bag: TokenBag


def distil(body: Backbone, spec: Spec) -> Distillation:
    """Every token through the backbone. Tokens that no text gives, and the unknown token, have vectors of zeros.

    Raises ZooError for a tokenizer that is not a fast one, and for more components than the token vectors have.
    """
    backend = getattr(body.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ZooError(f"backbone {body.name}: has no fast tokenizer, which a static model needs")
    tokenizer = Tokenizer.from_str(backend.to_str())
    token_bag.set_max_length(tokenizer, spec.max_length)
    token_ids = list_token_ids(body)
    vectors = compute_token_vectors(body, token_ids)
    components = min(vectors.shape) - spec.removed_components
    if spec.dim > components:
        raise ZooError(f"backbone {body.name}: dim {spec.dim} is more than the {components} components of its tokens")
    coordinates, axes = project_on_principal_components(vectors, components, spec.removed_components)
    weights = compute_sif_weights(estimate_zipf_frequencies(len(token_ids)), spec.sif_coefficient)
    table = np.zeros((token_bag.count_ids(tokenizer), components), dtype=np.float32)
    table[token_ids] = coordinates * weights[:, None]
    return Distillation(body, axes, TokenBag(tokenizer, table))


def compute_text_vectors(body: Backbone, texts: Sequence[str], cache: Path) -> Array:
    """Unit vectors (texts, width) float32 that the backbone gives texts; computed once for a folder `cache`."""
    path = cache / f"texts-{atomic_files.digest([body.name, body.revision, list(texts)])[:16]}.npy"
    if not path.exists():
        module = backbone.PooledBackbone(body, None, body.width)
        runner = engine.Engine(module, body.tokenize, body.pad, body.width, body.max_length)
        vectors = runner.encode(texts)
        with atomic_files.replace_file(path) as partial, partial.open("wb") as file:
            np.save(file, vectors)
    stored: Array = np.load(path, allow_pickle=False)
    return stored


def weigh_by_counts(bag: TokenBag, texts: Iterable[str], coefficient: float | None) -> TokenBag:
    """Replace weights by Zipf's law, as `distil` sets them, by weights from the tokens that are counted in texts.

    Half an occurrence is added to every count, so that a token that no text has keeps a frequency above zero.
    """
    ids, _ = bag.tokenize(list(texts))
    distilled = np.flatnonzero(bag.table.any(axis=1))
    counts = np.bincount(ids, minlength=len(bag.table))[distilled] + 0.5
    old_weights = compute_sif_weights(estimate_zipf_frequencies(len(distilled)), coefficient)
    new_weights = compute_sif_weights(counts / counts.sum(), coefficient)
    table = bag.table.copy()
    table[distilled] *= (new_weights / old_weights)[:, None].astype(np.float32)
    return TokenBag(bag.tokenizer, table)


def list_token_ids(body: Backbone) -> list[int]:
    """Ids of the tokens that texts consist of, ascending: neither special tokens nor unused places of the vocabulary."""
    special = set(body.tokenizer.all_special_ids)
    vocabulary = body.tokenizer.get_vocab()
    return sorted(id_ for token, id_ in vocabulary.items() if id_ not in special and not _UNUSED.fullmatch(token))


def compute_token_vectors(body: Backbone, token_ids: Sequence[int]) -> Array:
    """Pooled vectors (tokens, width) float32 of tokens, each between the special tokens that the backbone puts around a text."""
    before, after = _find_wrapping(body)
    device = next(body.model.parameters()).device
    key = _compute_key(body, [*before, -1, *after, -1, *token_ids])
    if key in _last_vectors:
        return _last_vectors[key].copy()
    body.model.train(False)
    blocks = []
    with torch.inference_mode():
        for start in range(0, len(token_ids), _BATCH):
            rows = [[*before, token, *after] for token in token_ids[start : start + _BATCH]]
            ids = torch.tensor(rows, device=device)
            mask = torch.ones_like(ids)
            states = body.model(input_ids=ids, attention_mask=mask).last_hidden_state
            blocks.append(body.pool(states, mask).float().cpu().numpy())
    vectors = np.concatenate(blocks)
    _last_vectors.clear()
    _last_vectors[key] = vectors
    return vectors.copy()


def _compute_key(body: Backbone, ids: Sequence[int]) -> str:
    """The sha256 of all that token vectors depend on: weights, configuration, pooling and token ids."""
    pooling: Any = body.pooling
    key = hashlib.sha256(f"{body.model.config.to_json_string()} {pooling.get_config_dict()} {list(ids)}".encode())
    for tensor in body.model.state_dict().values():
        key.update(tensor.cpu().contiguous().view(torch.uint8).numpy() if tensor.ndim else repr(tensor).encode())
    return key.hexdigest()


def _find_wrapping(body: Backbone) -> tuple[list[int], list[int]]:
    """The ids of the special tokens before and after a text. Raises ZooError if the tokenizer does not add them around it."""
    text = "a"
    bare = body.tokenizer(text, add_special_tokens=False)["input_ids"]
    whole = body.tokenizer(text)["input_ids"]
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return whole[:start], whole[start + len(bare) :]
    raise ZooError(f"backbone {body.name}: its tokenizer changes a text when it adds special tokens")


def project_on_principal_components(vectors: Array, dim: int, removed: int = 0) -> tuple[Array, Array]:
    """Coordinates (n, dim) float32 of (n, width) vectors on their principal axes (width, dim), the largest first.

    The first `removed` components are left out. Raises ZooError for more components than the vectors have.
    """
    if dim + removed > min(vectors.shape):
        raise ZooError(
            f"{dim} + {removed} principal components of {vectors.shape[0]} vectors of width {vectors.shape[1]}"
        )
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = fix_signs(axes[:, ::-1][:, removed : removed + dim])
    return (centred @ axes).astype(np.float32), axes


def estimate_zipf_frequencies(count: int) -> Array:
    """Frequencies (count,) by Zipf's law of tokens that are sorted by frequency, the most frequent first."""
    inverse_ranks = 1 / np.arange(2, count + 2)
    frequencies: Array = inverse_ranks / inverse_ranks.sum()
    return frequencies


def compute_sif_weights(frequencies: Array, coefficient: float | None) -> Array:
    """Weights a / (a + p) of tokens with frequencies p; ones for a coefficient of None."""
    if coefficient is None:
        return np.ones(len(frequencies))
    weights: Array = coefficient / (coefficient + frequencies)
    return weights
