"""The optimiser of a training, from the encoder's parameter groups and the recipe's `training:` section."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import torch

from zoo.core.errors import ZooError
from zoo.schema import Training

Groups = list[dict[str, Any]]
SOURCE = "source"  # in a group that is part of one of the encoder's: which one


def check_optimizer(settings: Training) -> None:
    """Raise ZooError for an optimiser that this machine does not have."""
    if settings.optimizer == "adamw-8bit":
        if importlib.util.find_spec("bitsandbytes") is None:
            raise ZooError(
                "training.optimizer: adamw-8bit needs bitsandbytes, which is not installed: "
                "pip install bitsandbytes, or use adamw"
            )
        if not torch.cuda.is_available():
            raise ZooError("training.optimizer: adamw-8bit needs a CUDA GPU, and there is none here: use adamw")
    if settings.optimizer == "muon" and not hasattr(torch.optim, "Muon"):
        raise ZooError(
            f"training.optimizer: torch {torch.__version__} has no Muon: install torch 2.9 or newer, or use adamw"
        )


def check_layers(encoder: Any, settings: Training) -> None:
    """Raise ZooError for `layer_decay` on an encoder whose layers are not known. It takes an untrained encoder too."""
    if settings.layer_decay is not None:
        _find_depths(encoder)


def make_optimizer(encoder: Any, settings: Training) -> torch.optim.Optimizer:
    """Return the optimiser over the encoder's parameter groups, which may have a rate and a weight decay of their own.

    Raises ZooError for an optimiser that this machine does not have, and for one that does not fit the encoder.
    """
    check_optimizer(settings)
    groups: Groups = encoder.parameter_groups(settings)
    if settings.layer_decay is not None or settings.optimizer == "muon":  # the groups are split
        groups = [{**group, SOURCE: number} for number, group in enumerate(groups)]
    if settings.layer_decay is not None:
        groups = _decay_by_layer(groups, encoder, settings)
    options: dict[str, Any] = {"lr": settings.peak_learning_rate, "weight_decay": settings.weight_decay}
    if settings.optimizer == "muon":
        return _make_muon(groups, encoder, options)
    if settings.optimizer == "adamw-8bit":
        optimizer: torch.optim.Optimizer = importlib.import_module("bitsandbytes").optim.AdamW8bit(groups, **options)
        return optimizer
    return torch.optim.AdamW(groups, **options, fused=True)


def list_clipped(optimizer: torch.optim.Optimizer) -> list[list[torch.Tensor]]:
    """Return the parameters of each of the encoder's groups, whose gradients are clipped by a norm of their own."""
    parts: dict[Any, list[torch.Tensor]] = {}
    for number, group in enumerate(optimizer.param_groups):
        parts.setdefault(group.get(SOURCE, number), []).extend(group["params"])
    return list(parts.values())


# -- layer-wise rates ----------------------------------------------------------------------------------------------------


def _decay_by_layer(groups: Groups, encoder: Any, settings: Training) -> Groups:
    """Split the groups by layers: a layer has the rate of the one above it times `layer_decay`; the last has the whole rate.

    The embeddings count as the layer below the first one. Parameters outside the backbone keep their rate.
    """
    depths = _find_depths(encoder)
    last, decay = max(depths.values()), settings.layer_decay or 1.0
    split: Groups = []
    for group in groups:
        rate = group.get("lr", settings.peak_learning_rate)
        for depth, part in _split(group, lambda parameter: depths.get(parameter, last)):
            split.append({**part, "lr": rate * decay ** (last - depth)})
    return split


def _find_depths(encoder: Any) -> Mapping[Any, int]:
    depths: Mapping[Any, int] | None = encoder.find_depths()
    if depths is None:
        raise ZooError(
            f"training.layer_decay: the family {encoder.spec.family} has no text backbone whose layers zoo knows: leave it out"
        )
    return depths


def _split(group: Mapping[str, Any], key: Callable[[Any], Any]) -> list[tuple[Any, dict[str, Any]]]:
    """Split a parameter group by a key of its parameters, in the order of the keys."""
    by_key: dict[Any, list[Any]] = {}
    for parameter in group["params"]:
        by_key.setdefault(key(parameter), []).append(parameter)
    return [(value, {**group, "params": by_key[value]}) for value in sorted(by_key)]


# -- Muon ----------------------------------------------------------------------------------------------------------------


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon for hidden matrices and AdamW for all other parameters, with the rates of AdamW for both.

    Muon's updates are scaled to the size of AdamW's (`match_rms_adamw`), so that a rate of AdamW suits both. Both optimisers
    share the parameter groups that a schedule changes.
    """

    def __init__(self, matrices: Groups, others: Groups, **options: Any) -> None:
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, **options, adjust_lr_fn="match_rms_adamw")
        ]
        if others:
            self.parts.append(torch.optim.AdamW(others, **options, fused=True))
        super().__init__([group for part in self.parts for group in part.param_groups], dict(options))
        self._share_groups()

    def _share_groups(self) -> None:
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Make a step of both optimisers."""
        loss = None if closure is None else closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the states of both."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the states of both."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()


def _make_muon(groups: Groups, encoder: Any, options: dict[str, Any]) -> torch.optim.Optimizer:
    embeddings = {
        module.weight
        for module in encoder.module.modules()
        if isinstance(module, torch.nn.Embedding | torch.nn.EmbeddingBag)
    }
    parts = [_split(group, lambda parameter: parameter.ndim == 2 and parameter not in embeddings) for group in groups]
    matrices = [part for group in parts for is_matrix, part in group if is_matrix]
    if not matrices:
        raise ZooError("training.optimizer: the encoder has no hidden matrices, which muon is for: use adamw")
    return MuonWithAdamW(matrices, [part for group in parts for is_matrix, part in group if not is_matrix], **options)
