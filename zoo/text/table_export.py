"""Make an encoder whose token table is coded, and one whose coded table is plain again."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch

from zoo.core.errors import ZooError
from zoo.fitted_steps import FittedSteps
from zoo.ops.tables import CODECS, Codec
from zoo.text import coded_table, table_distillation
from zoo.text.text_encoder import TextEncoder

PROBED = 256
"""Most texts, besides the probes of every encoder, on which the worst cosine is measured."""
AnyEncoder = TypeVar("AnyEncoder", bound=TextEncoder)


def check(encoder: Any, codec: str, *, has_texts: bool = False, finer: float = 0.0, steps: int = 0) -> None:
    """Raise ZooError if `encoder` has no token table that can be coded so, or for options that do not fit together."""
    if not isinstance(encoder, TextEncoder) or not encoder.has_codable_table or encoder.spec.adapter_folder:
        kind = "an adapter" if getattr(encoder.spec, "adapter_folder", None) else f"the family {encoder.spec.family}"
        raise ZooError(
            f"--table: a model folder of {kind} cannot hold a coded token table; dense and matryoshka-2d can"
        )
    if codec == "float":
        if coded_table.find(encoder.backbone.model) is None:
            raise ZooError(f"--table float: the token table of {encoder.name} is not coded; export it without --table")
        return
    if codec not in CODECS:
        raise ZooError(f"--table: {codec!r} is not one of {', '.join(CODECS)}, float")
    if not 0 <= finer < 1 or steps < 0:
        raise ZooError("the share of finer rows is a number from 0 to below 1, and steps are at least 0")
    if (finer or steps) and not has_texts:
        raise ZooError("finer rows and steps of distillation need texts: name a file of them with --table-texts")
    if (finer or steps) and codec != "pq":
        raise ZooError(f"finer rows and steps of distillation are for the codec pq; {codec} has no words to learn")
    coded_table.find_plain_table(encoder.backbone.model, encoder.name)


def code_table(
    encoder: AnyEncoder,
    codec: Codec,
    *,
    texts: Sequence[str] = (),
    finer: float = 0.0,
    steps: int = 0,
    rate: float = table_distillation.RATE,
    seed: int = 42,
) -> AnyEncoder:
    """Return a twin of `encoder` whose token table is coded. It shares every other tensor, and has no steps after training.

    Args:
        encoder: an encoder with a plain token table.
        codec: int8, int4 or pq.
        texts: texts of the kind that it will encode. The last few are set aside to measure cosines.
        finer: for pq, the share of the rows that are in int8: those whose tokens are most frequent in `texts`.
        steps: for pq, steps of distillation of the words on `texts`. The result is kept only if the mean cosine of the texts
            that were set aside rises; `distilled_steps` of the facts is 0 otherwise.
        rate: learning rate of the distillation.
        seed: of k-means and of the order of the texts.

    Raises ZooError if the table cannot be coded.
    """
    check(encoder, codec, has_texts=bool(texts), finer=finer, steps=steps)
    probes = [*encoder.make_probes(), *texts[len(texts) - min(PROBED, len(texts) // 2) :]]
    train_texts = texts[: len(texts) - min(PROBED, len(texts) // 2)]
    backbone = encoder.backbone
    embedding: Any = backbone.model.get_input_embeddings()
    weight = embedding.weight.detach().float().cpu()
    frequent = _find_frequent(encoder, train_texts, round(finer * len(weight))) if finer else ()
    table = coded_table.encode(backbone.model, backbone.tokenizer, codec, frequent, name=encoder.name, seed=seed)
    twin = _replace_table(encoder, table)
    targets = np.asarray(encoder.encode(probes))
    cosines = _compute_cosines(targets, twin.encode(probes))
    table.facts = replace(table.facts, worst_cosine=float(cosines.min()), texts=len(probes))
    if not steps:
        return twin
    words = table.get_buffer("words").clone()
    table_distillation.distil(encoder, twin, table, train_texts, steps=steps, rate=rate, seed=seed)
    twin._forget_engines()
    distilled = _compute_cosines(targets, twin.encode(probes))
    if distilled.mean() <= cosines.mean():  # it learned its own texts, and others lost
        table.words = words
        twin._forget_engines()
        return twin
    coded_table.describe_errors(table, weight, backbone.tokenizer)
    table.facts = replace(
        table.facts,
        worst_cosine=float(distilled.min()),
        undistilled_worst_cosine=float(cosines.min()),
        distilled_steps=steps,
    )
    return twin


def restore_table(encoder: AnyEncoder) -> AnyEncoder:
    """Return a twin of `encoder` with a plain token table that equals the decoded one. Raises ZooError if it is not coded."""
    check(encoder, "float")
    table = coded_table.find(encoder.backbone.model)
    assert table is not None  # `check` has seen it
    padding = getattr(encoder.backbone.model.config, "pad_token_id", None)
    return _replace_table(encoder, coded_table.make_plain(table, padding))


def _replace_table(encoder: AnyEncoder, table: torch.nn.Module) -> AnyEncoder:
    twin = copy.copy(encoder)
    model = coded_table.insert(encoder.backbone.model, table)
    twin.backbone = replace(encoder.backbone, model=model)
    parts: Any = encoder.module
    twin.module = torch.nn.ModuleDict({**dict(parts.items()), "backbone": model})
    # Steps were fitted on vectors of the other table.
    twin._fitted = FittedSteps()
    twin._forget_engines()
    return twin


def _find_frequent(encoder: TextEncoder, texts: Sequence[str], count: int) -> list[int]:
    """Return the `count` tokens that occur most often in `texts`; of equally frequent ones, those with the lower numbers."""
    embedding: Any = encoder.backbone.model.get_input_embeddings()
    counts = np.zeros(embedding.num_embeddings, np.int64)
    for row in encoder.list_token_ids(texts):
        np.add.at(counts, row, 1)
    order = np.argsort(-counts, kind="stable")[:count]
    return [int(token) for token in order if counts[token]]


def _compute_cosines(targets: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(targets, axis=1) * np.linalg.norm(vectors, axis=1)
    cosines: np.ndarray = (targets * vectors).sum(1) / norms
    return cosines
