"""Open a pretrained model of transformers so that no weight is drawn at random in silence. Needs torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from zoo.artefact import headers, tensors, weight_names
from zoo.core.errors import ArtefactError


def open_model(auto_class: Any, folder: Path, reference: str, config: Any, **options: Any) -> Any:
    """Open the model in `folder` by an Auto class of transformers. Only files of the folder are read.

    Known prefixes of the tensors' names are removed, with a warning. Raises ArtefactError if the weights lack a tensor, if a
    shape or a dtype is not the model's, or if config.json describes a far larger model; no memory is allocated before.

    Args:
        auto_class: for example `transformers.AutoModel`.
        folder: a folder with config.json and safetensors.
        reference: the model's name, for warnings.
        config: the model's config of transformers.
        options: further arguments of `from_pretrained`, for example dtype.
    """
    stored = headers.read_all(tensors.list_pretrained_files(folder))
    weight_names.check_dtypes(folder, stored)
    with torch.device("meta"):  # shapes without memory
        described = auto_class.from_config(config, trust_remote_code=False)
    shapes = tensors.get_shapes(described)
    if sum(map(math.prod, shapes.values())) > 2 * sum(math.prod(entry.shape) for entry in stored.values()) + 1:
        raise ArtefactError(f"{folder / 'config.json'}: describes a larger model than the weights hold")
    names = weight_names.Names(weight_names.find_prefix(stored, shapes, f"{described.base_model_prefix}."), ())
    model, report = auto_class.from_pretrained(
        folder,
        config=config,
        output_loading_info=True,
        key_mapping=names.key_mapping,
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        token=False,
        **options,
    )
    missing = sorted(name for name in report["missing_keys"] if not weight_names.is_unused(name))
    if missing:
        raise ArtefactError(weight_names.describe_missing(folder, missing, stored))
    weight_names.tell(reference, names._replace(unexpected=tuple(sorted(report["unexpected_keys"]))))
    save_under_own_names(model)
    return model


def save_under_own_names(model: Any) -> None:
    """Let `save_pretrained` write the tensors under the names that the library gives them today.

    By default the library remembers every renaming of the checkpoint that it read and undoes it on saving. The prefix of a
    wrapper and the old names gamma and beta of a layer norm would come back, and the folder would not open again.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping

    usual = {repr(conversion.source_patterns) for conversion in get_model_conversion_mapping(model, add_legacy=False)}
    used = getattr(model, "_weight_conversions", None) or []
    model._weight_conversions = [
        conversion for conversion in used if repr(getattr(conversion, "source_patterns", None)) in usual
    ]
