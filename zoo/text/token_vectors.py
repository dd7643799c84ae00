"""Token vectors of a text backbone: which tokens count in which role, the module that computes them, and their engine."""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from zoo.core.errors import ZooError
from zoo.core.inputs import check_texts
from zoo.core.progress import Advance
from zoo.ops.inference import check_finite
from zoo.ops.token_sets import Integers, TokenSets, join_token_sets
from zoo.text.backbone import Backbone
from zoo.text.engine import Array, Engine

SCORED = "scored"
"""The name of the mask of tokens that count, beside the tensors that the Transformer reads."""


@dataclass(frozen=True)
class TokenRules:
    """Which tokens of a text count. The rules are those of sentence-transformers' MultiVectorEncoder.

    Attributes:
        skipped: words whose tokens do not count in documents.
        skipped_ids: their token ids.
        expanded_length: a query with fewer tokens is filled up to so many with expansion tokens, which count. 0 for none.
        expansion_id: the token id that fills up.
        attends: whether the other tokens see the expansion tokens.
    """

    skipped: tuple[str, ...] = ()
    skipped_ids: tuple[int, ...] = ()
    expanded_length: int = 0
    expansion_id: int = 0
    attends: bool = False


def make_rules(backbone: Backbone, *, skip_punctuation: bool, expanded_length: int, attends: bool) -> TokenRules:
    """Return the rules for a backbone. Raises ZooError for an expansion that its tokenizer or its limit does not allow."""
    tokenizer: Any = backbone.tokenizer
    ids = {word: tokenizer.convert_tokens_to_ids(word) for word in string.punctuation} if skip_punctuation else {}
    known = {word: number for word, number in ids.items() if number not in (None, tokenizer.unk_token_id)}
    expansion_id = tokenizer.mask_token_id
    if expanded_length and expansion_id is None:
        raise ZooError(
            f"query_expansion: the tokenizer of {backbone.name} has no mask token to fill queries up with: leave it out"
        )
    if expanded_length > backbone.max_length:
        raise ZooError(
            f"query_expansion.length: {expanded_length} is more than the {backbone.max_length} tokens that {backbone.name} reads"
        )
    return TokenRules(tuple(known), tuple(known.values()), expanded_length, int(expansion_id or 0), attends)


def pad(
    backbone: Backbone, rules: TokenRules, ids: Sequence[Sequence[int]], *, is_query: bool
) -> dict[str, torch.Tensor]:
    """Return the tensors of `Backbone.pad`, with expansion tokens in queries, and the bool mask SCORED (rows, tokens)."""
    batch = backbone.pad(ids)
    token_ids, attention = batch["input_ids"], batch["attention_mask"]
    if not is_query:
        is_skipped = torch.isin(token_ids, torch.tensor(rules.skipped_ids, dtype=token_ids.dtype))
        return {**batch, SCORED: attention.bool() & ~is_skipped}
    missing = max(0, rules.expanded_length - token_ids.shape[1])
    token_ids, attention = (torch.nn.functional.pad(each, (0, missing)) for each in (token_ids, attention))
    is_expansion = (attention == 0) & (torch.arange(token_ids.shape[1]) < rules.expanded_length)
    return {
        "input_ids": token_ids.masked_fill(is_expansion, rules.expansion_id),
        "attention_mask": attention.masked_fill(is_expansion, 1) if rules.attends else attention,
        SCORED: attention.bool() | is_expansion,
    }


def drop_linear_maps(backbone: Backbone) -> Backbone:
    """Return the backbone without the linear maps that follow its pooling, because token vectors are not pooled."""
    return replace(backbone, linear_maps=())


class TokenBackbone(torch.nn.Module):
    """One module from a batch of `pad` to unit token vectors (batch, tokens, dim). Tokens that do not count are zeros."""

    def __init__(self, backbone: Backbone, head: torch.nn.Module | None) -> None:
        super().__init__()
        self.model, self.head = backbone.model, head

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Encode the tensors that `pad` makes."""
        inputs = {name: values for name, values in batch.items() if name != SCORED}
        states = self.model(**inputs).last_hidden_state
        vectors = (states if self.head is None else self.head(states)).float()
        return torch.nn.functional.normalize(vectors, dim=-1) * batch[SCORED].unsqueeze(-1)


class MeanOfTokens(torch.nn.Module):
    """One module from a batch of `pad` to the unit vectors (batch, dim) along the mean of the tokens that count."""

    def __init__(self, tokens: TokenBackbone) -> None:
        super().__init__()
        self.tokens = tokens

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Encode the tensors that `pad` makes."""
        return torch.nn.functional.normalize(self.tokens(batch).sum(1), dim=-1)


class TokenEngine(Engine):
    """Encodes many texts to sets of token vectors, with the batches of `Engine`."""

    def _encode_ids(self, ids: Sequence[list[int]], dtype: torch.dtype, advance: Advance) -> Array:
        """Return one set (t, dim) float32 for each row of ids, in an array of objects."""
        sets = np.empty(len(ids), dtype=object)
        for places, outputs in self._run_batches(ids, dtype, advance):
            check_finite(outputs)
            for place, vectors in zip(places, outputs, strict=True):
                sets[place] = vectors[vectors.any(axis=1)]
        return sets

    def encode_sets(self, texts: Iterable[str], *, precision: str = "fp32") -> TokenSets:
        """Return the tokens (t, dim) float32 of all texts in order, and the offsets (n + 1,) at which each text begins."""
        parts = list(self.stream_sets(texts, precision=precision))
        starts = np.cumsum([0, *(len(tokens) for tokens, _ in parts)])
        offsets = [own[1:] + start for (_, own), start in zip(parts, starts[:-1], strict=True)]
        first: Integers = np.zeros(1, np.int64)
        return np.concatenate([tokens for tokens, _ in parts]), np.concatenate([first, *offsets])

    def stream_sets(self, texts: Iterable[str], *, precision: str = "fp32") -> Iterator[TokenSets]:
        """Yield the sets of `encode_sets` in blocks of texts. Memory does not grow with the number of texts."""
        for block in self.stream(check_texts(texts), precision=precision):
            yield join_token_sets(list(block), self.dim)


def compute_principal_axes(second_moment: Array, dim: int) -> torch.Tensor:
    """Return the weight (dim, width) float32 of a head that keeps inner products of token states best: their principal axes.

    `second_moment` (width, width) is the sum of the products of the states, which are not centred.
    """
    values, axes = torch.linalg.eigh(torch.from_numpy(second_moment).double())
    leading = axes[:, values.argsort(descending=True)[:dim]]
    # eigh leaves the signs open; fixed signs give the same head for the same texts on every machine
    signs = torch.sign(leading.gather(0, leading.abs().argmax(0, keepdim=True)))
    weight: torch.Tensor = (leading * signs).T.float().contiguous()
    return weight
