"""Choose which parts of a backbone are trained: all, the later blocks, or an adapter on its linear layers."""

from __future__ import annotations

import torch

from zoo.core.errors import ZooError
from zoo.text import lora
from zoo.text.backbone import Backbone
from zoo.text.lora_spec import TextLora


def find_blocks(model: torch.nn.Module) -> tuple[str, torch.nn.ModuleList]:
    """Return the path and the list of the Transformer blocks: the first list with as many entries as the config counts.

    Raises ZooError for a model without such a list.
    """
    count = int(model.config.num_hidden_layers)  # type: ignore[union-attr, arg-type]
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return path, module
    raise ZooError(f"the architecture {model.config.model_type} has no list of {count} blocks")  # type: ignore[union-attr]


def insert_adapter(backbone: Backbone, spec: TextLora | None) -> tuple[str, ...]:
    """Insert an untrained adapter, if there is a `spec`. Return the last names of the layers that got one.

    Raises ZooError for a target that matches no layer, and without peft.
    """
    if spec is None:
        return ()
    lora.import_peft()
    prefix = f"{find_blocks(backbone.model)[0]}\\."
    names = lora.list_linear_names(backbone.model, prefix)
    if spec.targets != "auto":
        names = list(spec.targets)
    pattern = lora.build_target_pattern(backbone.model, names, "lora.targets", prefix)
    lora.insert_adapter(backbone.model, spec, pattern, backbone.name)
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
