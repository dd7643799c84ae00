"""Set up a backbone as a recipe says: pooling, further map, adapter, 4 bits, frozen blocks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sentence_transformers.models as st_modules
import torch
import transformers
import transformers.models.auto.modeling_auto as auto_models

from zoo.core.errors import ZooError
from zoo.families.dense.spec import Spec
from zoo.text import lora
from zoo.text.backbone import Backbone

POOLING_MODES = {"mean": "mean", "cls": "cls", "last": "lasttoken", "weighted": "weightedmean"}
"""zoo's names of poolings → those of sentence-transformers."""


def choose_pooling(backbone: Backbone, spec: Spec) -> Backbone:
    """Return the backbone with the pooling and the further map of `spec`, which torch's random generator draws."""
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
    config_class: Any = transformers.BitsAndBytesConfig  # it has no annotations
    config = config_class(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    return {"quantization_config": config}


def find_blocks(model: torch.nn.Module) -> tuple[str, torch.nn.ModuleList]:
    """Return the path and the list of the Transformer blocks: the first list with as many entries as the config counts.

    Raises ZooError for a model without such a list.
    """
    count = int(model.config.num_hidden_layers)  # type: ignore[union-attr, arg-type]
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return path, module
    raise ZooError(f"the architecture {model.config.model_type} has no list of {count} blocks")  # type: ignore[union-attr]


def insert_adapter(backbone: Backbone, spec: Spec) -> tuple[str, ...]:
    """Insert an untrained adapter if the spec has `lora`. Return the last names of the layers that got one.

    Raises ZooError for a target that matches no layer, and without peft.
    """
    if spec.lora is None:
        return ()
    lora.import_peft()
    prefix = f"{find_blocks(backbone.model)[0]}\\."
    names = lora.list_linear_names(backbone.model, prefix)
    if spec.lora.targets != "auto":
        names = list(spec.lora.targets)
    pattern = lora.build_target_pattern(backbone.model, names, "lora.targets", prefix)
    lora.insert_adapter(backbone.model, spec.lora, pattern, backbone.name)
    return tuple(names)


def freeze(backbone: Backbone, count: int) -> None:
    """Keep the token embeddings and the first `count` blocks as they are. Nothing is frozen if `count` is 0.

    Raises ZooError for more blocks than there are.
    """
    if not count:
        return
    path, blocks = find_blocks(backbone.model)
    if count > len(blocks):
        raise ZooError(f"freeze: {count} is outside 0…{len(blocks)}, the number of blocks of {backbone.name}")
    for name, parameter in backbone.model.named_parameters():
        if name.startswith(f"{path}."):
            number = int(name.removeprefix(f"{path}.").split(".")[0])
            if number >= count:
                return  # what follows the blocks is trained
        parameter.requires_grad_(False)
