"""Open a pretrained model of transformers so that no weight is drawn at random in silence. Needs torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
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


def get_checkpoint_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a model's tensors under the names that checkpoints of its architecture have.

    Of most architectures these are the names of the model itself. The library stores some under older names, and joins tensors.
    """
    from transformers.core_model_loading import revert_weight_conversion

    state = revert_weight_conversion(model, model.state_dict())
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def fill(model: Any, stored: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Load the tensors of a model folder into a model that the library has opened from it.

    Raises ArtefactError if a tensor is missing, extra, mis-shaped or not finite. Tensors that the library stores under other
    names are in the model already; they are checked alone.
    """
    tied = {name: str(target) for name, target in model.all_tied_weights_keys.items()}
    whole = {
        **stored,
        **{name: stored[target] for name, target in tied.items() if name not in stored and target in stored},
    }
    expected = get_checkpoint_shapes(model)
    if expected.keys() == tensors.get_shapes(model).keys():
        tensors.fill(model, whole, folder)
        return
    problems = [f"missing tensor {name}" for name in expected.keys() - whole.keys()]
    problems += [f"extra tensor {name[:80]}" for name in whole.keys() - expected.keys()]
    for name in expected.keys() & whole.keys():
        if tuple(whole[name].shape) != expected[name]:
            problems.append(f"tensor {name} has shape {tuple(whole[name].shape)}, not {expected[name]}")
        elif not torch.isfinite(whole[name]).all():
            problems.append(f"tensor {name} holds NaN or infinity")
    if problems:
        listed = "; ".join(sorted(problems)[:4])
        raise ArtefactError(
            f"{folder}: weights do not fit config.json: {listed}; download the model again or retrain it"
        )


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
