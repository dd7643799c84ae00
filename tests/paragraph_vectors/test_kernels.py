"""Kernels and matrix products: each step is the gradient of negative sampling, and words are drawn as the tables say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo.ops import codes
from zoo.paragraph_vectors import kernels, negative_sampling
from zoo.paragraph_vectors.corpus import split_into_chunks
from zoo.paragraph_vectors.sampling import build_alias_table
from zoo.paragraph_vectors.vocabulary import Vocabulary


def test_matrix_products_give_the_gradient_that_autograd_finds():
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs, targets, noise = (draw(*shape).requires_grad_() for shape in ((5, 3, 8), (5, 4, 8), (6, 8)))
    bias = draw(5, 4), draw(6)
    pairs = (torch.rand(5, 3, 4, generator=generator) < 0.6).double()
    negative_sampling.compute_loss(inputs, targets, noise, pairs, 5 / 6, bias).backward()
    vectors = inputs.detach(), targets.detach(), noise.detach()
    gradients = negative_sampling.compute_gradients(*vectors, pairs, 5 / 6, bias)
    for tensor, gradient in zip((inputs, targets, noise), gradients, strict=True):
        torch.testing.assert_close(gradient, -tensor.grad)


@pytest.mark.parametrize("count", [1, 3, 8, 9])
def test_a_compiled_step_is_the_gradient_that_autograd_finds(count):
    rng = np.random.default_rng(count)
    inputs, outputs = (rng.normal(size=(n, 37)).astype(np.float32) / 3 for n in (count, 20))
    bias, rows = rng.normal(size=20).astype(np.float32), np.array([3, 19, 0, 7, 3, 5, 11])
    exact_inputs, exact_outputs = (
        torch.tensor(array, dtype=torch.float64, requires_grad=True) for array in (inputs, outputs)
    )
    signs = torch.tensor([1.0, 1.0, -1.0, -1.0, -1.0, -1.0, -1.0])
    logits = exact_inputs @ exact_outputs[rows].T + torch.tensor(bias[rows])
    losses = -torch.nn.functional.logsigmoid(signs * logits).sum(1)
    losses.sum().backward()
    before, changes, errors = outputs.copy(), np.empty_like(inputs), np.empty((count + 3, 7), np.float32)
    padded_inputs = np.concatenate((inputs, np.full((3, 37), np.nan, np.float32)))
    loss = kernels._step_inputs(
        padded_inputs, count, outputs, bias, rows, 2, np.float32(0.1), True, True, errors, changes
    )
    assert loss == pytest.approx(losses[0].item(), rel=2e-3)
    # the sigmoid comes from a table of 4,096 places, so gradients are not exact
    np.testing.assert_allclose(changes, -0.1 * exact_inputs.grad.numpy(), atol=1e-3)
    np.testing.assert_allclose(outputs - before, -0.1 * exact_outputs.grad.numpy(), atol=1e-3)
    outputs, change = before.copy(), np.empty(37, np.float32)
    step = (bias, rows, 2, np.float32(0.1), True, True, errors[0], change)
    assert kernels._step_one_input(inputs[0], outputs, *step) == pytest.approx(losses[0].item(), rel=2e-3)
    np.testing.assert_allclose(change, -0.1 * exact_inputs.grad[0].numpy(), atol=1e-3)


def test_a_vector_that_is_not_finite_gives_a_loss_that_is_not_finite():
    outputs, rows = np.zeros((3, 4), np.float32), np.array([0, 1, 2])
    outputs[1, 2] = np.nan
    errors, change = np.empty(3, np.float32), np.empty(4, np.float32)
    step = (np.zeros(3, np.float32), rows, 1, np.float32(0.1), False, True, errors, change)
    assert np.isnan(kernels._step_one_input(np.ones(4, np.float32), outputs, *step))
    assert np.isnan(change).all()


def test_noise_words_are_drawn_as_often_as_their_weights_say():
    weights = np.array([8.0, 1.0, 0.5, 3.0, 0.1])
    probabilities, aliases = build_alias_table(weights)
    exact = (np.bincount(aliases, 1.0 - probabilities, minlength=5) + probabilities) / 5
    np.testing.assert_allclose(exact, weights / weights.sum(), atol=1e-6)
    state = np.array([88172645463325252], np.uint64)
    words = [kernels._draw_noise_word(state, probabilities, aliases) for _ in range(20_000)]
    np.testing.assert_allclose(np.bincount(words, minlength=5) / 20_000, weights / weights.sum(), atol=0.02)


def test_a_document_that_needs_more_noise_than_the_ring_holds_starts_again_at_the_first():
    ring, rows = np.array([7, 8, 9]), np.zeros(6, np.int64)
    unused = (np.zeros(1, np.uint64), np.ones(1, np.float32), np.zeros(1, np.int32))
    assert kernels._fill_with_noise(rows, 1, ring, 1, *unused) == 6
    assert rows.tolist() == [0, 8, 9, 7, 8, 9]


def test_subsampling_keeps_words_as_often_as_the_probabilities_say():
    probabilities = Vocabulary(("a", "b", "c"), (1600, 81, 16)).compute_keep_probabilities(1e-2)
    tokens, state, kept_words = np.zeros(20_000, np.int32), np.array([7], np.uint64), np.empty(20_001, np.int64)
    count = kernels._subsample(tokens, 0, 20_000, probabilities, state, kept_words)
    assert count / 20_000 == pytest.approx(probabilities[0], abs=0.01)


def test_near_words_predict_each_other_more_often_because_the_reach_is_drawn():
    size, window, times = 9, 3, 3000
    tokens, ends = np.tile(np.arange(size, dtype=np.int32), times), np.arange(1, times + 1) * size
    inputs, outputs = np.eye(size, dtype=np.float32), np.zeros((size, size), np.float32)
    rate, zeros = 1e-4, np.zeros(size, np.float32)
    # plain tuples: a kernel must read the fields of a batch and of the tables by position
    tables = (np.ones(size, np.float32), zeros, np.zeros(size, np.int32), zeros)
    batch = (tokens, ends - size, ends, np.arange(times))
    documents = np.zeros((times, size), np.float32)
    options = (0, window, np.array([[rate, rate]]), 1, False, True, np.float32(0), False)
    words = (inputs, np.arange(size), outputs)
    kernels.predict_in_windows(batch, np.arange(times), documents, *words, tables, *options)
    distance = np.abs(np.arange(size)[:, None] - np.arange(size))
    expected = np.where(distance > 0, np.maximum(0, window + 1 - distance) / window, 0)
    # without noise, each time that word j predicts word i adds half a rate to component j of output i
    np.testing.assert_allclose(outputs / (times * rate / 2), expected, atol=0.12)


def test_the_changes_of_all_copies_are_added_up():
    rng = np.random.default_rng(0)
    base, changes = rng.normal(size=(6, 3)), rng.normal(size=(4, 6, 3))
    copies, expected = base + changes, base + changes.sum(0)
    kernels.merge(base, copies, 0, 6)
    np.testing.assert_allclose(base, expected)
    np.testing.assert_allclose(copies, np.stack([expected] * 4))
    rows = np.array([1, 3, 4])
    partial_copy = expected[rows] + changes[0, :3]
    kernels.subtract(partial_copy, base, rows)
    np.testing.assert_allclose(partial_copy, changes[0, :3])
    kernels.add(base, rows, partial_copy)
    np.testing.assert_allclose(base[rows], expected[rows] + changes[0, :3])


def test_rounding_passes_the_gradient_of_the_sigmoid():
    generator = torch.Generator().manual_seed(0)
    logits, gradient = (torch.randn(4, 9, generator=generator, dtype=torch.float64) for _ in range(2))
    logits.requires_grad_()
    scale = 0.7
    (2 * scale * (2 * torch.sigmoid(logits / scale) - 1) * gradient).sum().backward()
    torch.testing.assert_close(codes.compute_straight_through_gradient(logits.detach(), gradient, scale), logits.grad)
    documents, changes = logits.detach().float().numpy().copy(), gradient.float().numpy()
    kernels._update_document(documents[2], np.float32(scale), changes[2])
    np.testing.assert_allclose(documents[2], logits.detach()[2] + logits.grad[2], rtol=1e-5)


def test_a_rotation_loses_less_by_rounding_than_the_axes_it_starts_from():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(400, 12, generator=generator, dtype=torch.float64) * torch.linspace(0.2, 2, 12)
    rotation = codes.fit_iterative_quantisation(rows, 6, 0)
    torch.testing.assert_close(rotation.T @ rotation, torch.eye(6, dtype=torch.float64))
    leading_axes = torch.linalg.svd(rows - rows.mean(0))[2][:6].T

    def rounding_loss(axes):
        reduced = rows @ axes
        return (reduced - torch.sign(reduced) * reduced.abs().mean()).square().sum()

    assert rounding_loss(rotation) < 0.9 * rounding_loss(leading_axes)


def test_a_window_reaches_as_far_as_drawn_and_never_into_padding():
    chunk, reach = torch.tensor([[4, 5, 6, 7, -1]]), torch.tensor([[1, 2, 1, 3, 4]])
    mask = negative_sampling.compute_window_mask(chunk, reach)[0]
    assert mask.int().tolist() == [[0, 1, 0, 0, 0], [1, 0, 1, 1, 0], [0, 1, 0, 1, 0], [1, 1, 1, 0, 0], [0] * 5]


@pytest.mark.parametrize("offset", [0, 3])
def test_chunks_hold_every_word_once_and_in_order(offset):
    lengths = np.array([5, 0, 9, 1, 4])
    tokens = np.arange(lengths.sum())
    chunks, documents = split_into_chunks(tokens, lengths, 4, np.full(5, offset))
    np.testing.assert_array_equal(chunks[chunks >= 0], tokens)
    np.testing.assert_array_equal(np.bincount(documents, (chunks >= 0).sum(1), minlength=5), lengths)
    assert (chunks[0] >= 0).sum() == 4 - offset, "an offset shortens the first chunk"
