"""Small models of every architecture that zoo computes by itself."""

from __future__ import annotations

from typing import Any

import tiny
import torch
import transformers

from zoo.text import padding

KINDS = ("bert", "electra", "electra-projected", "roberta", "xlm-roberta", "camembert", "mpnet", "distilbert")


def make_model(kind: str, **changes: Any) -> Any:
    """A model of two blocks whose biases are not zero and whose norms are not one."""
    torch.manual_seed(3)
    if kind == "camembert":
        config = transformers.CamembertConfig(**tiny.make_config("xlm-roberta", 2, 32).to_dict())
    else:
        config = tiny.make_config(kind.split("-projected")[0], 2, 32)
    config.update({"pad_token_id": 1, **({"embedding_size": 16} if kind == "electra-projected" else {}), **changes})
    model = transformers.AutoModel.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.3 * torch.randn_like(parameter)
    return model


def make_batch(lengths: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Random token ids; the padding token's id also stands inside of texts."""
    torch.manual_seed(len(lengths))
    ids = [torch.randint(0, 40, (length,)).tolist() for length in lengths]
    ids[0][len(ids[0]) // 2] = 1
    return padding.pad(ids, 1)
