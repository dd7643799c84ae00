"""Low-rank adapters in a vision-language model, through peft: put in, merged, written, opened."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.artefact import tensors
from zoo.core.errors import ArtefactError, ZooError
from zoo.core.lazy import lazy
from zoo.families.vlm2vec.spec import Lora
from zoo.families.vlm2vec.vlm import VLM

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch")

STEM = "adapter_model"


def peft() -> Any:
    """The library. Raises ZooError, which names the extra, where it is not installed."""
    try:
        import peft
    except ImportError:
        raise ZooError('lora: needs peft, which is not installed: pip install "embedding-zoo[lora]"') from None
    return peft


def pattern(vlm: VLM, spec: Lora) -> str:
    """A regex for the whole paths of the linear maps that are adapted: by their last name alone, those of the vision tower would
    be adapted too. Raises ZooError where there are none."""
    within = "" if spec.vision else rf"{re.escape(vlm.architecture.language)}\."
    found = rf"{within}(?:.*\.)?(?:{'|'.join(spec.modules)})"
    linear = (name for name, module in vlm.model.named_modules() if isinstance(module, torch.nn.Linear))
    if not any(re.fullmatch(found, name) for name in linear):
        raise ZooError(f"lora.modules: no linear map of the backbone is called {' or '.join(spec.modules)}")
    return found


def put_in(vlm: VLM, spec: Lora, base: str | None = None) -> None:
    """Freeze the model and put an untrained adapter in, which changes no output; its weights are drawn from torch's generator."""
    config = peft().LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,
        lora_dropout=spec.dropout,
        use_dora=spec.dora,
        target_modules=pattern(vlm, spec),
        base_model_name_or_path=base,
    )
    vlm.model.requires_grad_(requires_grad=False)
    peft().inject_adapter_in_model(config, vlm.model)


def merge(vlm: VLM) -> None:
    """Add the adapter to the weights, in place, and take it out."""
    layer: Any = peft().tuners.tuners_utils.BaseTunerLayer
    held = [(name, module) for name, module in vlm.model.named_modules() if isinstance(module, layer)]
    for name, module in held:
        module.merge(safe_merge=True)
        parent, _, last = name.rpartition(".")
        setattr(vlm.model.get_submodule(parent), last, module.get_base_layer())
    vlm.model.requires_grad_(requires_grad=True)
    if hasattr(vlm.model, "peft_config"):
        del vlm.model.peft_config


def _own(vlm: VLM) -> dict[str, Any]:
    """The adapter's tensors by the names that peft gives them in a file."""
    return {
        f"base_model.model.{name.replace('.default', '')}": tensor
        for name, tensor in vlm.model.state_dict().items()
        if ".lora_" in name
    }


def write(folder: Path, vlm: VLM, base: str, revision: str) -> None:
    """adapter_model.safetensors and adapter_config.json, as peft has them."""
    from safetensors.torch import save_file

    held = {name: tensor.detach().cpu().contiguous() for name, tensor in _own(vlm).items()}
    save_file(held, folder / f"{STEM}.safetensors", metadata={"format": "pt"})
    config = vlm.model.peft_config["default"].to_dict()
    config |= {
        "target_modules": pattern_of(vlm),
        "base_model_name_or_path": base,
        "revision": revision or None,
        "inference_mode": True,
        "task_type": "FEATURE_EXTRACTION",
    }
    plain = {name: sorted(value) if isinstance(value, set) else value for name, value in config.items()}
    (folder / "adapter_config.json").write_text(json.dumps(plain, indent=2, default=str) + "\n", encoding="utf-8")


def pattern_of(vlm: VLM) -> list[str]:
    """The paths of the linear maps that hold an adapter, sorted."""
    names = {name.split(".lora_")[0] for name in vlm.model.state_dict() if ".lora_" in name}
    return sorted(names)


def fill(folder: Path, vlm: VLM) -> None:
    """Read what `write` wrote into a model with an adapter. Raises ArtefactError for tensors that are missing, extra, mis-shaped
    or not finite."""
    held, own = tensors.read(folder, STEM), _own(vlm)
    wrong = [f"missing tensor {name}" for name in own.keys() - held.keys()]
    wrong += [f"extra tensor {name[:80]}" for name in held.keys() - own.keys()]
    for name in own.keys() & held.keys():
        if own[name].shape != held[name].shape:
            wrong.append(f"tensor {name} has shape {tuple(held[name].shape)}, not {tuple(own[name].shape)}")
        elif not torch.isfinite(held[name]).all():
            wrong.append(f"tensor {name} holds NaN or infinity")
    if wrong:
        raise ArtefactError(f"{folder}: the adapter does not fit its base: {'; '.join(sorted(wrong)[:4])}")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(held[name])
