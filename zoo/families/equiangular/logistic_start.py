"""The start of the projection on a pretrained backbone: a logistic regression, written as a map to the class vectors.

Before any training the classifier is then as good as a logistic regression on the backbone's frozen features.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch

INVERSE_REGULARISATION = 10.0  # of scikit-learn's C, for features of mean norm 1
MAX_ITERATIONS = 300


def fit_logistic_regression(
    features: torch.Tensor, class_ids: torch.Tensor, vectors: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit a linear map whose product with each class vector is nearest to the logit of a logistic regression.

    It is the least-squares solution. It is exact if the vectors are linearly independent, and for a simplex up to a constant
    that is the same for all classes. Then the class with the largest cosine is the class with the largest logit.

    Args:
        features: (n, width) float.
        class_ids: (n,) int64, with at least two different classes. Some classes may have no rows.
        vectors: (classes, d) unit rows.

    Returns weight (d, width) and bias (d,) of a linear layer, whose outputs have a mean norm of 1.
    """
    from sklearn.linear_model import LogisticRegression

    scale = features.norm(dim=1).mean().clamp(min=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # training goes on from a regression that has not quite converged
        regression = LogisticRegression(C=INVERSE_REGULARISATION, max_iter=MAX_ITERATIONS)
        regression.fit((features / scale).double().numpy(), class_ids.numpy())
    coefficients, intercepts = regression.coef_, regression.intercept_
    if len(regression.classes_) == 2:  # scikit-learn has one logit for two classes
        coefficients, intercepts = (np.concatenate([-part, part]) / 2 for part in (coefficients, intercepts))
    inverse = torch.linalg.pinv(vectors[torch.from_numpy(regression.classes_)].double())
    weight = inverse @ torch.from_numpy(coefficients) / scale
    bias = inverse @ torch.from_numpy(intercepts)
    norm = (features.double() @ weight.T + bias).norm(dim=1).mean().clamp(min=1e-12)
    return (weight / norm).float(), (bias / norm).float()
