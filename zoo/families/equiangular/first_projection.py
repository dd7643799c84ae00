"""Chooses the projection that training starts from on a pretrained backbone: a rotation, or a logistic regression.

A rotation keeps the distances of the backbone's space, by which neighbours are found and unknown inputs are told. A regression
separates classes that lie close together in that space. It is taken only where it is clearly better on rows it was not fitted to.
"""

from __future__ import annotations

import torch

from zoo.families.equiangular import logistic_start, procrustes

FOLDS = 3
MARGIN = 0.03  # by which a regression must be more often right than a rotation


def fit_projection(
    features: torch.Tensor, class_ids: torch.Tensor, vectors: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight (d, width) and bias (d,) of the start; the arguments are those of `procrustes.fit_rotation`."""
    rotation, regression = 0.0, 0.0
    folds = torch.randperm(len(features), generator=torch.Generator().manual_seed(0)) % FOLDS  # rows may be in order
    for fold in range(FOLDS):
        is_tested = folds == fold
        known_ids = class_ids[~is_tested]
        if len(set(known_ids.tolist())) < 2:
            return procrustes.fit_rotation(features, class_ids, vectors)
        tested, answers = features[is_tested], class_ids[is_tested]
        fitted = (features[~is_tested], known_ids, vectors)
        rotation += _count_right(procrustes.fit_rotation(*fitted), tested, answers, vectors)
        regression += _count_right(logistic_start.fit_logistic_regression(*fitted), tested, answers, vectors)
    is_better = regression - rotation > MARGIN * len(features)
    fit = logistic_start.fit_logistic_regression if is_better else procrustes.fit_rotation
    return fit(features, class_ids, vectors)


def _count_right(
    linear: tuple[torch.Tensor, torch.Tensor], features: torch.Tensor, class_ids: torch.Tensor, vectors: torch.Tensor
) -> float:
    """Count the features whose nearest class vector is that of their class."""
    weight, bias = linear
    outputs = torch.nn.functional.normalize(features @ weight.T + bias, dim=1)
    return float(((outputs @ vectors.T).argmax(1) == class_ids).sum())
