"""The task `infomec` on encoders that return their input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from datasets import Dataset

from zoo.core.errors import ZooError
from zoo.metrics import disentanglement, infomec_of_encoder


@dataclass
class IdentityEncoder:
    """Returns the vectors it is given, packed to bits if its similarity_fn_name is "hamming"."""

    dtype: type = np.float64
    similarity_fn_name: str = "cosine"
    modalities: tuple[str, ...] = ("text", "vector")
    name: str = "identity"
    dim: int = 3

    def encode(self, inputs):
        vectors = np.asarray(inputs, dtype=self.dtype)
        return np.packbits(vectors > 0, axis=1) if self.similarity_fn_name == "hamming" else vectors


def make_rows(count=240):
    draw = np.random.default_rng(0)
    shape, size = draw.integers(0, 2, count), draw.integers(0, 3, count)
    vectors = np.stack([shape, size == 2, draw.integers(0, 2, count)], axis=1)
    names = {"shape": np.array(["disc", "square"])[shape].tolist(), "size": (size / 2).tolist()}
    return Dataset.from_dict({"vector": vectors.tolist(), **names}), vectors, np.stack([shape, size], axis=1)


@pytest.mark.parametrize(
    ("encoder", "discrete"),
    [
        (IdentityEncoder(), False),
        (IdentityEncoder(np.uint8), True),
        (IdentityEncoder(np.int64), True),
        (IdentityEncoder(similarity_fn_name="hamming"), True),
    ],
)
def test_the_figures_are_those_of_the_vectors_and_bits_and_whole_numbers_are_discrete(encoder, discrete):
    rows, vectors, sources = make_rows()
    figures, details = infomec_of_encoder.measure(encoder, {"data": rows}, ("shape", "size"))
    expected, result = disentanglement.compute_figures(sources, vectors, discrete)
    assert figures == expected
    assert details == disentanglement.summarise(result, ["shape", "size"])
    assert details["sources"] == ["shape", "size"]


def test_rows_that_the_encoder_cannot_read_are_refused_with_their_columns():
    rows, _, _ = make_rows(4)
    with pytest.raises(
        ZooError, match="identity reads text or image, .* the columns vector, shape, size; name the col"
    ):
        infomec_of_encoder.measure(IdentityEncoder(modalities=("text", "image")), {"data": rows}, ["shape"])


def test_at_most_ten_thousand_rows_are_measured(monkeypatch):
    assert infomec_of_encoder.MAX_ROWS == 10_000
    rows, _, _ = make_rows(50)
    monkeypatch.setattr(infomec_of_encoder, "MAX_ROWS", 20)
    counts = []
    encoder = IdentityEncoder()
    monkeypatch.setattr(encoder, "encode", lambda inputs: (counts.append(len(inputs)), np.asarray(inputs))[1])
    for count in (50, 20, 19):
        infomec_of_encoder.measure(encoder, {"data": rows.select(range(count))}, ["shape"])
    assert counts == [20, 20, 19]
