"""Ways of breaking a model of sentence-transformers, each with the cause that `zoo verify` must name.

A function changes the model and returns a function from texts to vectors. Nothing here uses the code of `zoo verify`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from sentence_transformers.models import Pooling
from tokenizers import Tokenizer

Encode = Callable[[Sequence[str]], np.ndarray]


class Breakage(NamedTuple):
    """A way of breaking a model.

    Attributes:
        name: a description for people.
        break_model: changes a model and returns its `encode`.
        cause: the cause that must be named.
        detail: a part of the detail that must be named.
    """

    name: str
    break_model: Callable[[Any], Encode]
    cause: str
    detail: str


def encode_with(model: Any, **options: Any) -> Encode:
    """Return `encode` of a model with options."""
    return lambda texts: np.asarray(model.encode(list(texts), show_progress_bar=False, **options), np.float64)


def set_pooling(mode: str) -> Callable[[Any], Encode]:
    """Return a function that replaces the pooling."""

    def replace(model: Any) -> Encode:
        model[1] = Pooling(model[1].get_embedding_dimension(), mode)
        return encode_with(model)

    return replace


def drop_layer(model: Any) -> Encode:
    """Leave out the last block of a BERT."""
    transformer = model[0].auto_model
    transformer.encoder.layer = transformer.encoder.layer[:-1]
    return encode_with(model)


def set_limit(tokens: int) -> Callable[[Any], Encode]:
    """Return a function that changes the token limit."""

    def change(model: Any) -> Encode:
        model.max_seq_length = tokens
        return encode_with(model)

    return change


def cut_characters(model: Any) -> Encode:
    """Cut texts after 128 characters."""
    encode = encode_with(model)
    return lambda texts: encode([text[:128] for text in texts])


def put_prompt(model: Any) -> Encode:
    """Put a prompt that the model does not have before each text."""
    return encode_with(model, prompt="query: ")


def keep_case(model: Any) -> Encode:
    """Let the tokenizer no longer make texts lower case."""
    description = json.loads(model.tokenizer.backend_tokenizer.to_str())
    description["normalizer"]["lowercase"] = False
    model.tokenizer._tokenizer = Tokenizer.from_str(json.dumps(description))
    return encode_with(model)


def leave_out_special_tokens(model: Any) -> Encode:
    """Let the tokenizer add no special tokens."""
    description = json.loads(model.tokenizer.backend_tokenizer.to_str())
    description["post_processor"] = None
    model.tokenizer._tokenizer = Tokenizer.from_str(json.dumps(description))
    return encode_with(model)


def leave_out_normalize(model: Any) -> Encode:
    """Leave out the last module."""
    del model[len(model) - 1]
    return encode_with(model)


def leave_out_dense(model: Any) -> Encode:
    """Leave out the module after the pooling."""
    del model[2]
    return encode_with(model)


def cut_components(model: Any) -> Encode:
    """Give the first half of the components, normalised."""
    width = model.encode(["a"]).shape[1]
    return encode_with(model, truncate_dim=width // 2, normalize_embeddings=True)


def count_padding(model: Any) -> Encode:
    """Let padding count in the pooling."""
    pooling = model[1]
    forward = pooling.forward

    def pool_all(features: dict[str, Any], **options: Any) -> dict[str, Any]:
        mask = features["attention_mask"]
        pooled = forward({**features, "attention_mask": torch.ones_like(mask)}, **options)
        return {**pooled, "attention_mask": mask}

    pooling.forward = pool_all
    return encode_with(model)


def mix_order(model: Any) -> Encode:
    """Return vectors in the order of the lengths of the texts."""
    encode = encode_with(model)
    return lambda texts: encode(sorted(texts, key=len))


def quantise_vectors(model: Any) -> Encode:
    """Return vectors of whole numbers."""
    encode = encode_with(model)
    return lambda texts: np.rint(encode(texts) * 127 / 0.2)


def change_weights(model: Any) -> Encode:
    """Add noise to all matrices, as a further training changes weights."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data += torch.randn(parameter.shape, generator=generator) * parameter.std() * 0.2
    return encode_with(model)


def mix_weights(model: Any) -> Encode:
    """Permute the rows of all matrices: another model of the same shapes."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data = parameter.data[torch.randperm(len(parameter), generator=generator)]
    return encode_with(model)


def quantise_weights(model: Any) -> Any:
    """Round the weights of linear layers to int8 per row, and their inputs to uint8 per tensor, as dynamic int8 does."""

    def round_input(_: Any, values: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        low, high = min(values[0].min().item(), 0), max(values[0].max().item(), 0)
        step = (high - low) / 255
        return (((values[0] - low) / step).round() * step + low,)

    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            step = module.weight.data.abs().amax(1, keepdim=True) / 127
            module.weight.data = (module.weight.data / step).round() * step
            module.register_forward_pre_hook(round_input)
    return model


def list_breakages(limit: int) -> list[Breakage]:
    """Return the breakages of a BERT with mean pooling and this token limit. A few of them need a text beyond the limit."""
    low, high = limit // 2, limit + 36
    return [
        Breakage("pooling: first token", set_pooling("cls"), "pooling", "the first token"),
        Breakage("pooling: maximum", set_pooling("max"), "pooling", "the maximum"),
        Breakage("pooling: last token", set_pooling("lasttoken"), "pooling", "the last token"),
        Breakage("last block missing", drop_layer, "layer", "layer"),
        Breakage(f"cut after {low} tokens", set_limit(low), "truncation", f"after {low} tokens instead of {limit}"),
        Breakage(f"cut after {high} tokens", set_limit(high), "truncation", f"after {high} tokens instead of {limit}"),
        Breakage("cut after 128 characters", cut_characters, "truncation", "after 128 characters"),
        Breakage("a prompt that the model lacks", put_prompt, "prompt", "'query: ' stands before each text"),
        Breakage("lower-casing lost", keep_case, "lower-casing", "no longer makes texts lower case"),
        Breakage("no special tokens", leave_out_special_tokens, "special tokens", "no special tokens"),
        Breakage("no normalisation", leave_out_normalize, "normalisation", "instead of 1"),
        Breakage("half of the components", cut_components, "dimension", "components instead of"),
        Breakage("padding pooled in a batch", count_padding, "padding", "changes with the other inputs"),
        Breakage("order of the lengths", mix_order, "order", "place of another input"),
        Breakage("vectors of whole numbers", quantise_vectors, "quantised vectors", "whole"),
        Breakage("other weights, nearby", change_weights, "revision", "other weights"),
        Breakage("another model", mix_weights, "model", "nothing in common"),
    ]
