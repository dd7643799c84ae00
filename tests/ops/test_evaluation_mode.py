"""Evaluation mode that leaves no trace, and the check for vectors that are not finite."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch

from zoo.core.errors import ZooError
from zoo.ops.inference import check_finite, evaluation_mode


def test_exactly_the_parts_in_training_mode_are_so_again_even_after_an_error():
    module = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout())
    module.train()
    module[1].eval()
    with contextlib.suppress(OSError), evaluation_mode(module):
        assert not any(part.training for part in module.modules())
        raise OSError
    assert [part.training for part in module.modules()] == [True, True, False]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_with_advice(value):
    vectors = np.ones((2, 3), np.float32)
    check_finite(vectors)
    check_finite(vectors[:0])
    vectors[1, 2] = value
    with pytest.raises(ZooError, match="not finite.*download the model again or retrain it"):
        check_finite(vectors)
