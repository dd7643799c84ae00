"""LoRA adapters of a model of transformers, through peft: insert, merge, write and load them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from zoo.artefact import tensors
from zoo.core.errors import ArtefactError, ZooError
from zoo.core.suggest import suggest
from zoo.text.lora_spec import LoraSpec

FILE_STEM = "adapter_model"


def import_peft() -> Any:
    """Return the module peft. Raise ZooError, which names the extra to install, if peft is missing."""
    try:
        import peft
    except ImportError:
        raise ZooError('lora: needs peft, which is not installed: pip install "embedding-zoo[lora]"') from None
    return peft


def list_linear_names(model: torch.nn.Module, prefix: str = "") -> list[str]:
    """List the last names of the linear layers whose path matches the regular expression `prefix`, sorted."""
    paths = (path for path, module in model.named_modules() if isinstance(module, torch.nn.Linear))
    return sorted({path.rpartition(".")[2] for path in paths if re.match(prefix, path)})


def build_target_pattern(model: torch.nn.Module, names: Sequence[str], field: str, prefix: str = "") -> str:
    """Return a regular expression for the full paths of the linear layers that get an adapter.

    Args:
        names: last names of the layers.
        field: the recipe's field that has the names, for the message.
        prefix: a regular expression for the beginning of the paths, because names alone may match too much.

    Raises ZooError that names near names if one of `names` matches no linear layer.
    """
    known = list_linear_names(model, prefix)
    for name in names:
        if name not in known:
            raise ZooError(f"{field}: the backbone has no linear map called {name}{suggest(name, known)}")
    return rf"{prefix}(?:.*\.)?(?:{'|'.join(names)})"


def insert_adapter(model: Any, spec: LoraSpec, pattern: str, backbone_name: str | None = None) -> None:
    """Freeze the model and insert an untrained adapter, which does not change any output.

    The adapter's weights come from torch's random generator.
    """
    config = import_peft().LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,
        lora_dropout=spec.dropout,
        use_dora=spec.dora,
        target_modules=pattern,
        base_model_name_or_path=backbone_name,
    )
    model.requires_grad_(requires_grad=False)
    import_peft().inject_adapter_in_model(config, model)


def merge_adapter(model: Any) -> None:
    """Add the adapter to the weights of the model in place, and remove it. Without an adapter, nothing changes."""
    adapter_class: Any = import_peft().tuners.tuners_utils.BaseTunerLayer
    adapted_layers = [(name, module) for name, module in model.named_modules() if isinstance(module, adapter_class)]
    for name, module in adapted_layers:
        layer: Any = module
        layer.merge(safe_merge=True)
        parent, _, last_name = name.rpartition(".")
        setattr(model.get_submodule(parent), last_name, layer.get_base_layer())
    model.requires_grad_(requires_grad=True)
    if hasattr(model, "peft_config"):
        del model.peft_config


def _collect_adapter_tensors(model: Any) -> dict[str, Any]:
    """Return the adapter's tensors by the names that peft gives them in a file."""
    return {
        f"base_model.model.{name.replace('.default', '')}": tensor
        for name, tensor in model.state_dict().items()
        if ".lora_" in name
    }


def _list_adapted_layers(model: Any) -> list[str]:
    """Return the sorted paths of the linear layers that hold an adapter."""
    return sorted({name.split(".lora_")[0] for name in model.state_dict() if ".lora_" in name})


def write_adapter(folder: Path, model: Any, backbone_name: str, backbone_revision: str) -> None:
    """Write adapter_model.safetensors and adapter_config.json in peft's format."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in _collect_adapter_tensors(model).items()}
    save_file(weights, folder / f"{FILE_STEM}.safetensors", metadata={"format": "pt"})
    config = model.peft_config["default"].to_dict()
    config |= {
        "target_modules": _list_adapted_layers(model),
        "base_model_name_or_path": backbone_name,
        "revision": backbone_revision or None,
        "inference_mode": True,
        "task_type": "FEATURE_EXTRACTION",
    }
    config = {name: sorted(value) if isinstance(value, set) else value for name, value in config.items()}
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, default=str) + "\n", encoding="utf-8")


def load_adapter_weights(folder: Path, model: Any) -> None:
    """Load the weights that `write_adapter` wrote into the adapter of a model.

    Raise ArtefactError for tensors that are missing, extra, mis-shaped or not finite.
    """
    stored_tensors, expected_tensors = tensors.read(folder, FILE_STEM), _collect_adapter_tensors(model)
    problems = [f"missing tensor {name}" for name in expected_tensors.keys() - stored_tensors.keys()]
    problems += [f"extra tensor {name[:80]}" for name in stored_tensors.keys() - expected_tensors.keys()]
    for name in expected_tensors.keys() & stored_tensors.keys():
        if expected_tensors[name].shape != stored_tensors[name].shape:
            problems.append(
                f"tensor {name} has shape {tuple(stored_tensors[name].shape)}, not {tuple(expected_tensors[name].shape)}"
            )
        elif not torch.isfinite(stored_tensors[name]).all():
            problems.append(f"tensor {name} holds NaN or infinity")
    if problems:
        raise ArtefactError(f"{folder}: the adapter does not fit its backbone: {'; '.join(sorted(problems)[:4])}")
    with torch.no_grad():
        for name, tensor in expected_tensors.items():
            tensor.copy_(stored_tensors[name])
