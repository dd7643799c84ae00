"""Write and read a backbone with a head for token vectors in the format of sentence-transformers' MultiVectorEncoder.

The modules are Transformer, Dense, MultiVectorMask and Normalize. Dense is left out if there is no head.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sentence_transformers
import sentence_transformers.models as st_modules
import torch
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

from zoo.artefact import preflight, tensors
from zoo.text.backbone import Backbone, hide_progress_bars
from zoo.text.token_vectors import TokenRules

HEAD_FOLDER = "1_Dense"
WEIGHT = "linear.weight"


def write(folder: Path, backbone: Backbone, head: torch.nn.Linear | None, rules: TokenRules) -> None:
    """Write `backbone` and its head into an empty `folder`."""
    transformer: Any = backbone.build_transformer_module()
    if rules.expanded_length:
        length, attends = rules.expanded_length, rules.attends
        transformer.query_expansion = {"strategy": "min", "length": length, "attend": attends}
    model = sentence_transformers.MultiVectorEncoder(
        modules=[
            transformer,
            *([] if head is None else [_make_module(head)]),
            MultiVectorMask(skiplist_words=list(rules.skipped)),
            st_modules.Normalize(module_input_name="token_embeddings"),
        ],
        device="cpu",
        prompts={**backbone.named_prompts, **backbone.prompts},
        similarity_fn_name="maxsim",
    )
    with hide_progress_bars():
        model.save_pretrained(str(folder), create_model_card=False)


def _make_module(head: torch.nn.Linear) -> torch.nn.Module:
    layer: Any = st_modules.Dense(
        head.in_features,
        head.out_features,
        bias=False,
        activation_function=torch.nn.Identity(),
        module_input_name="token_embeddings",
    )
    layer.linear = head
    module: torch.nn.Module = layer
    return module


def read_head(folder: Path, dim: int, width: int) -> torch.nn.Linear:
    """Read the head (dim, width). Raise ArtefactError for one of another shape, before memory is allocated."""
    preflight.check_shapes(folder / HEAD_FOLDER, {WEIGHT: (dim, width)})
    head = torch.nn.Linear(width, dim, bias=False)
    tensors.fill(head, {"weight": tensors.read(folder / HEAD_FOLDER)[WEIGHT]}, folder)
    return head
