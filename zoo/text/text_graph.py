"""Make the graph of an encoder with a Transformer backbone: token ids in, the vector of the view out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from tokenizers import Tokenizer

from zoo.core.errors import ZooError
from zoo.graph import TextReader
from zoo.text.backbone import Backbone
from zoo.text.token_vectors import SCORED, TokenBackbone


class TokensToVector(torch.nn.Module):
    """A module of an engine, which takes a batch as a mapping, with the arguments of a graph.

    `scorer` maps vectors (batch, dim) to scores (batch, classes), which become a second output.
    """

    def __init__(self, module: torch.nn.Module, scorer: torch.nn.Module | None = None) -> None:
        super().__init__()
        self.module, self.scorer = module, scorer

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        """Return vectors (batch, dim), or vectors and scores."""
        vectors = self.module({"input_ids": input_ids, "attention_mask": attention_mask})
        return vectors if self.scorer is None else (vectors, self.scorer(vectors))


class TokensToSets(torch.nn.Module):
    """A `TokenBackbone` with the arguments of a graph. It returns unit vectors (batch, dim) along the mean, and the tokens."""

    def __init__(self, tokens: TokenBackbone) -> None:
        super().__init__()
        self.tokens = tokens

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, scored: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return vectors (batch, dim) and token vectors (batch, tokens, dim), zeros for tokens that do not count."""
        tokens = self.tokens({"input_ids": input_ids, "attention_mask": attention_mask, SCORED: scored})
        return torch.nn.functional.normalize(tokens.sum(1), dim=-1), tokens


def make_reader(backbone: Backbone, prompts: Mapping[str, str]) -> TextReader:
    """Return the tokenizer of a backbone with its truncation. Raises ZooError for one of another library than `tokenizers`."""
    tokenizer: Any = backbone.tokenizer
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        raise ZooError(
            f"backbone {backbone.name}: its tokenizer is not one of the library `tokenizers`, so it has no file"
        )
    twin = Tokenizer.from_str(fast.to_str())
    twin.no_padding()
    twin.enable_truncation(backbone.max_length, direction=tokenizer.truncation_side)
    kept = {role: prompt for role, prompt in prompts.items() if prompt}
    return TextReader(twin.to_str(), backbone.max_length, pad_id=int(tokenizer.pad_token_id or 0), prompts=kept)
