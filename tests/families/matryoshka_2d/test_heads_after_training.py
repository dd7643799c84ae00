"""matryoshka-2d without settings of its own: the full size is trained alone, and the heads of the views come afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from tiny_matryoshka import build, rows

import zoo
from zoo.artefact import model_folder
from zoo.families.matryoshka_2d import closed_form
from zoo.families.matryoshka_2d.encoder import Encoder
from zoo.ops import losses
from zoo.schema import Training
from zoo.text import heads as headfit
from zoo.training import trainer

SETTINGS = Training(epochs=4, batch_size=16, learning_rate=1e-3, seed=1)
TEXTS = tiny.SENTENCES[:40]


class PlainEncoder(Encoder):
    """The backbone, trained with the contrastive loss and nothing else."""

    def loss(self, batch):
        columns = self._embed_layers(batch, [self.backbone.depth])[self.backbone.depth]
        return losses.compute_contrastive_loss(columns[0], columns[1:].flatten(0, 1), 1 / self.spec.temperature)


def fit(encoder, folder, table=None):
    encoder.fit(rows() if table is None else table, SETTINGS, folder)
    return encoder


def compute_cosines(encoder):
    vectors = encoder.encode(TEXTS)
    return vectors @ vectors.T


def test_the_full_size_is_that_of_plain_contrastive_training(tmp_path):
    ours = build(tmp_path)
    plain = PlainEncoder.build(ours.spec, seed=3)
    untrained = compute_cosines(ours)
    trainer.fit(plain, rows(), SETTINGS, tmp_path / "plain")
    fit(ours, tmp_path / "ours")
    # Adam makes a whole step of a gradient that is 0 but for rounding.
    np.testing.assert_allclose(compute_cosines(ours), compute_cosines(plain), atol=3e-3)
    assert np.abs(compute_cosines(ours) - untrained).max() > 0.05


def test_a_training_has_no_dropout_so_that_it_is_the_same_on_several_processes(tmp_path):
    modules = build(tmp_path).backbone.model.modules()
    assert {module.p for module in modules if isinstance(module, torch.nn.Dropout)} == {0.0}


def test_every_layer_gets_a_head_and_a_saved_model_keeps_it(tmp_path):
    encoder = fit(build(tmp_path), tmp_path / "run")
    assert sorted(map(int, encoder.heads)) == list(range(1, encoder.backbone.depth + 1))
    opened = zoo.from_pretrained(model_folder.save(encoder, tmp_path / "model"))
    for view in ({}, {"layers": 1, "dim": 8}, {"layers": 2, "dim": 16}):
        np.testing.assert_allclose(opened.view(**view).encode(TEXTS), encoder.view(**view).encode(TEXTS), atol=1e-5)


def test_heads_bring_small_views_closer_to_the_whole_encoder(tmp_path):
    encoder = fit(build(tmp_path), tmp_path / "run")
    bare = Encoder(encoder.spec, encoder.backbone)

    def distance(other, **view):
        return np.abs(compute_cosines(other.view(**view)) - compute_cosines(encoder)).mean()

    for view in ({"layers": 1}, {"layers": 2}, {"layers": 1, "dim": 16}):
        assert distance(encoder, **view) < distance(bare, **view)


def test_a_second_training_goes_on_from_the_first(tmp_path):
    encoder = fit(build(tmp_path), tmp_path / "first")
    before = compute_cosines(encoder)
    fit(encoder, tmp_path / "second", rows(48))
    assert np.abs(compute_cosines(encoder) - before).max() > 1e-3
    assert encoder._get_head(encoder.backbone.depth).bias is None


def test_equal_rows_give_equal_heads(tmp_path):
    pairs = [(row["anchor"], row["positive"]) for row in rows()]
    encoder = build(tmp_path)
    first, second = (closed_form.fit_heads(encoder.backbone, pairs) for _ in range(2))
    assert all(torch.equal(first[n].weight, second[n].weight) for n in first)


@pytest.mark.parametrize("count", [12, 64])
def test_a_shallow_head_is_the_ridge_regression_to_the_turned_vectors(count, tmp_path):
    """Its penalty, as a share of the mean variance, is 20 / texts for few texts, and 1 / 100 for many."""
    encoder = build(tmp_path)
    pairs = [(row["anchor"], row["positive"]) for row in rows(count)]
    heads = closed_form.fit_heads(encoder.backbone, pairs)
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    states = {n: torch.from_numpy(vectors).double() for n, vectors in encoder.encode_layers(texts).items()}
    target = torch.nn.functional.normalize(states[encoder.backbone.depth], dim=-1) @ heads[3].weight.T.double()
    centred = states[1] - states[1].mean(0)
    moment = centred.T @ centred
    ridge = max(0.01, 20 / len(texts)) * moment.diagonal().mean() * torch.eye(32)
    expected = torch.linalg.solve(moment + ridge, centred.T @ (target - target.mean(0))).T
    torch.testing.assert_close(heads[1].weight.double(), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    "fields", [{"shallow_grad_scale": 0.3}, {"teacher": {}}, {"loss": "cosent"}, {"loss": "angle"}]
)
def test_a_recipe_with_its_own_value_a_teacher_or_another_loss_trains_all_views(fields, tmp_path):
    spec = build(tmp_path).spec
    other = type(spec).model_validate(spec.model_dump() | fields)
    assert spec.trains_full_size_alone
    assert not other.trains_full_size_alone
    assert other.shallow_gradient_share == 0.3


def test_a_value_of_a_recipe_gives_the_loss_of_all_views(tmp_path):
    """The default was 0.3 once, and saved recipes hold it: their loss is the sum over all layers, with heads fitted before."""
    encoder = build(tmp_path, shallow_grad_scale=0.3)
    assert len(encoder.heads) == encoder.backbone.depth
    batch = encoder.collate(list(rows(16)))
    encoder.loss(batch).backward()
    assert all(head.weight.grad is not None for head in encoder.heads.values())


def test_a_pair_rotation_is_orthonormal_and_puts_first_what_pairs_share():
    generator = torch.Generator().manual_seed(0)
    shared, noise = torch.randn(400, 4, generator=generator), torch.randn(2, 400, 12, generator=generator)
    first, second = (torch.cat([1.5 * noise[side], shared], dim=1) for side in (0, 1))
    rotation = headfit.compute_pair_rotation(first, second)
    torch.testing.assert_close(rotation.T @ rotation, torch.eye(16, dtype=torch.float64))
    principal_axes = torch.linalg.eigh(torch.cat([first, second]).T @ torch.cat([first, second])).eigenvectors.flip(1)
    assert (
        rotation[12:, :4].square().sum() > 3 > 1 > principal_axes[12:, :4].square().sum()
    )  # of 4: the noise varies more


@pytest.mark.parametrize(("row_count", "epochs"), [(300, 3), (1000, 3), (1500, 2), (3000, 1), (100_000, 1)])
def test_few_pairs_are_read_three_times_and_at_a_higher_rate(row_count, epochs, tmp_path):
    spec = build(tmp_path).spec
    assert spec.epoch_rule.choose(row_count) == epochs
    assert spec.usual_learning_rate == 1e-4
    scored = spec.model_copy(update={"loss": "cosent"})
    assert (scored.epoch_rule, scored.usual_learning_rate) == (None, 2e-5)
