"""`Graph`: the network of an encoder and what surrounds it, as `zoo.deploy` writes it for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from zoo.runtime.description import TokenSets


@dataclass(frozen=True)
class TextReader:
    """How texts become token ids.

    Attributes:
        tokenizer: the file tokenizer.json, which truncates and does not pad.
        max_length: tokens of a text that are read; None for all.
        adds_special_tokens: whether the tokenizer adds its special tokens.
        pad_id: the token id that fills a batch up.
        empty_id: the id that a text without any token gets; None for none.
        prompts: the text before a query, a document, and ("") a text without a role; without empty ones.
    """

    tokenizer: str
    max_length: int | None
    adds_special_tokens: bool = True
    pad_id: int = 0
    empty_id: int | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """The network of an encoder at one view.

    Attributes:
        modules: the network by side: "query" and "document", or "" if one network reads both. A module takes
            (input_ids, attention_mask), int64 (batch, tokens), and with `token_sets` also `scored`, of the same kind, which is 1
            for tokens that count; or pixels (batch, channels, size, size) uint8; or vectors (batch, components) float32. It
            returns one tensor for each of `outputs`.
        modality: text, image or vector.
        reader: how texts become token ids; None for images and vectors.
        outputs: "vector"; for a classifier "scores"; with `token_sets` "tokens", (batch, tokens, dim) float32, which are zeros
            for tokens that do not count.
        dtype: of a vector: float32, uint8 or uint16.
        similarity: what vectors are compared with: cosine, dot or codes; hamming for packed bits.
        normalizes: whether vectors have unit norm.
        can_be_cut: whether the first components are a vector of their own.
        takes_int8: whether products of the graph may be computed in 8 bits.
        layers: number of blocks; None if the family counts none.
        size, channels: of an image; components: of an input vector.
        classes, scale, threshold: of a classifier. A score below the threshold has no class.
        least_probability: a class that is less probable is not given.
        named_vectors: (classes, dim) float32, the vectors of texts that are the name of a class; None for none.
        token_sets: which tokens count, if the graph gives a vector for each token.
        probes: texts that the graph is compared on beside those of zoo, which may hold no word that it knows.
    """

    modules: Mapping[str, torch.nn.Module]
    modality: str = "text"
    reader: TextReader | None = None
    outputs: tuple[str, ...] = ("vector",)
    dtype: str = "float32"
    similarity: str = "cosine"
    normalizes: bool = True
    can_be_cut: bool = False
    takes_int8: bool = True
    layers: int | None = None
    size: int = 0
    channels: int = 0
    components: int = 0
    classes: tuple[str | int, ...] = ()
    scale: float = 1.0
    threshold: float | None = None
    least_probability: float = 0.0
    named_vectors: npt.NDArray[np.float32] | None = None
    token_sets: TokenSets | None = None
    probes: tuple[str, ...] = ()
