"""Heads that are computed after the training, so that no view takes anything from the last layer at full width.

The backbone is trained as it would be without views. The head of the last layer is then a rotation, which changes no cosine of
whole vectors. It puts first the axes on which the two texts of a pair agree. The head of each shallow layer is a ridge regression
to the rotated vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from zoo.text import heads as headfit
from zoo.text.backbone import Backbone
from zoo.text.truncatable import move_to_device

PAIRS = 2048  # training pairs, at most, from which the heads are computed
CHUNK_SIZE = 64
RIDGE, RIDGE_TEXTS = 1e-2, 20  # the ridge of many texts, and that of few times their number


def fit_heads(
    backbone: Backbone, pairs: Sequence[tuple[str, str]], last_head: torch.nn.Module | None = None
) -> dict[int, torch.nn.Linear]:
    """Return the head of every layer, on the device of the backbone.

    Args:
        pairs: texts of a pair, as the backbone reads them.
        last_head: the head that the last layer has been trained with, a linear one without a bias.
    """
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    device, layers = backbone.model.device, range(1, backbone.depth + 1)
    fit = headfit.HeadFit(backbone.depth, backbone.width, ridge=max(RIDGE, RIDGE_TEXTS / len(texts)))
    vectors = torch.empty(len(texts), backbone.width)
    backbone.model.train(False)
    with torch.inference_mode():
        for chunk, places in backbone.iterate_batches(texts, CHUNK_SIZE):
            states = list(backbone.compute_states(move_to_device(device, chunk), layers))
            states[-1] = states[-1] if last_head is None else last_head(states[-1])
            fit.add(states)
            vectors[places] = F.normalize(states[-1].float(), dim=-1).cpu()
    place = {text: i for i, text in enumerate(texts)}
    left, right = (vectors[[place[pair[side]] for pair in pairs]] for side in (0, 1))
    solved = fit.solve(headfit.compute_pair_rotation(left, right))
    if last_head is not None:
        weight = last_head.get_parameter("weight").detach().cpu()
        solved[backbone.depth] = (solved[backbone.depth][0] @ weight, None)
    return {n: headfit.make_head(weight, bias).to(device) for n, (weight, bias) in solved.items()}
