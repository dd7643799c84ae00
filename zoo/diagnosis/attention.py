"""The attention of a text encoder: relative entropy by layer and head, and what it says about the training."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from zoo.core.errors import ZooError
from zoo.core.findings import Finding
from zoo.metrics.attention import compute_attention_entropy, measure_spectral_norms, multiply_query_and_key_norms

TEXTS = 256  # texts that are read; more change the means in the third digit only
BATCH = 32
COLLAPSED, SPREAD = 0.1, 0.98  # a layer's mean below or above is told


@dataclass(frozen=True)
class AttentionDiagnosis:
    """Figures of attention.

    Attributes:
        entropy: the mean relative entropy of each head, by layer: 0 if a head looks at one token, 1 if it looks at all equally.
        norm_products: the product of the spectral norms of query and key of each layer; () where they are named otherwise.
        findings: layers whose attention is collapsed or even.
    """

    entropy: tuple[tuple[float, ...], ...]
    norm_products: tuple[float, ...]
    findings: tuple[Finding, ...]

    @property
    def layer_means(self) -> list[float]:
        """The mean over the heads of each layer."""
        return [sum(heads) / len(heads) for heads in self.entropy]

    def describe(self) -> dict[str, Any]:
        """Return everything as plain values, as JSON can hold them."""
        return {
            "entropy": [list(heads) for heads in self.entropy],
            "layer_means": self.layer_means,
            "norm_products": list(self.norm_products),
            "findings": [finding._asdict() for finding in self.findings],
        }


def diagnose_attention(encoder: Any, texts: Sequence[str]) -> AttentionDiagnosis:
    """Measure the attention of a text encoder on the first TEXTS of `texts`.

    The encoder is copied, because attention weights exist only where attention is computed step by step, in float32. Raises
    ZooError for an encoder without a backbone of transformers, and for one whose attention gives no weights.
    """
    backbone = getattr(encoder, "backbone", None)
    if backbone is None or not hasattr(backbone, "model"):
        raise ZooError("attention can be measured only of an encoder with a text backbone of transformers")
    model = copy.deepcopy(backbone.model).float().eval()
    try:
        model.set_attn_implementation("eager")
    except (AttributeError, ValueError) as error:
        raise ZooError(f"attention of {model.config.model_type} cannot be measured: it gives no weights") from error
    layers = getattr(encoder, "layers", backbone.depth)
    if layers < backbone.depth:
        model = replace(backbone, model=model).cut(layers).model
    totals: list[torch.Tensor] = []
    chosen = list(texts)[:TEXTS]
    with torch.inference_mode():
        for start in range(0, len(chosen), BATCH):
            batch = backbone.tokenizer(
                chosen[start : start + BATCH],
                padding=True,
                truncation=True,
                max_length=backbone.max_length,
                return_tensors="pt",
            ).to(model.device)
            maps = model(**batch, output_attentions=True).attentions
            if not maps or maps[0] is None:
                raise ZooError(f"attention of {model.config.model_type} cannot be measured: it gives no weights")
            is_token = batch["attention_mask"].bool()
            for layer, weights in enumerate(maps):
                sums = compute_attention_entropy(weights, is_token, is_causal=_is_causal(weights))
                if layer == len(totals):
                    totals.append(torch.zeros_like(sums))
                totals[layer] += sums
    if not totals or not all(total[-1] > 0 for total in totals):
        raise ZooError("attention needs texts of two tokens or more")
    entropy = tuple(tuple((total[:-1] / total[-1]).tolist()) for total in totals)
    products = tuple(multiply_query_and_key_norms(measure_spectral_norms(model)))
    return AttentionDiagnosis(entropy, products, tuple(_find_faults(entropy)))


def _is_causal(weights: torch.Tensor) -> bool:
    """Whether no token looks at a later one."""
    return weights.shape[-1] > 1 and not bool(weights.triu(1).any())


def _find_faults(entropy: Sequence[Sequence[float]]) -> list[Finding]:
    """Return layers that look at single tokens or at all tokens equally. A single such head is usual in a healthy encoder."""
    findings = []
    for layer, heads in enumerate(entropy, 1):
        mean = sum(heads) / len(heads)
        if mean < COLLAPSED:
            findings.append(
                Finding(
                    "warning",
                    f"attention of layer {layer} is collapsed: its mean entropy is {mean:.3f} of the largest one",
                    "lower `training.learning_rate`, raise `training.warmup`, or train from scratch with `sigma_reparam`",
                )
            )
        elif mean > SPREAD:
            findings.append(
                Finding(
                    "warning",
                    f"attention of layer {layer} is even: its mean entropy is {mean:.3f} of the largest one, so it only averages",
                    "train longer, or leave the layer out",
                )
            )
    return findings
