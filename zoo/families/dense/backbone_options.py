"""Set up a backbone as a recipe says: pooling, further map, 4 bits.

transformers and sentence-transformers are imported where they are used, because a trained folder is encoded without them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from zoo.core.errors import ZooError
from zoo.families.dense.spec import Spec
from zoo.text.backbone import Backbone

POOLING_MODES = {"mean": "mean", "cls": "cls", "last": "lasttoken", "weighted": "weightedmean"}
"""zoo's names of poolings → those of sentence-transformers."""


def choose_pooling(backbone: Backbone, spec: Spec) -> Backbone:
    """Return the backbone with the pooling and the further map of `spec`, which torch's random generator draws."""
    import sentence_transformers.models as st_modules

    mode = POOLING_MODES.get(spec.pooling)
    if mode is None and backbone.normalizes is None:  # a bare model, whose folder does not name a pooling
        mode = "lasttoken" if is_causal(backbone.model.config) else "mean"
    if mode is not None:
        pooling: Any = backbone.pooling
        backbone = replace(backbone, pooling=st_modules.Pooling(pooling.embedding_dimension, pooling_mode=mode))
    if spec.projection:
        dense: Any = st_modules.Dense(
            backbone.width, spec.projection, bias=False, activation_function=torch.nn.Identity()
        )
        torch.nn.init.orthogonal_(dense.linear.weight)
        backbone = replace(backbone, linear_maps=(*backbone.linear_maps, dense))
    return backbone


def describe_pooling(backbone: Backbone) -> str:
    """Return zoo's name of the pooling, or that of sentence-transformers where zoo has none."""
    pooling: Any = backbone.pooling
    names = {mode: name for name, mode in POOLING_MODES.items()}
    mode = pooling.pooling_mode
    return names.get(mode, mode) if isinstance(mode, str) else " and ".join(mode)


def is_causal(config: Any) -> bool:
    """Whether a token sees only what stands before it: a language model that no masked one shares its type with."""
    import transformers.models.auto.modeling_auto as auto_models

    bidirectional = getattr(config, "use_bidirectional_attention", False) or getattr(config, "is_causal", True) is False
    is_decoder = config.model_type in auto_models.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return is_decoder and not bidirectional and config.model_type not in auto_models.MODEL_FOR_MASKED_LM_MAPPING_NAMES


def make_model_options(spec: Spec) -> dict[str, Any]:
    """Return the arguments with which transformers holds the weights in 4 bits; {} without `quantize`.

    Raises ZooError without a GPU.
    """
    if not spec.quantize:
        return {}
    if not torch.cuda.is_available():
        raise ZooError("quantize: weights of 4 bits are computed on a GPU, and there is none here: leave it out")
    import transformers

    config_class: Any = transformers.BitsAndBytesConfig  # it has no annotations
    config = config_class(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    return {"quantization_config": config}
