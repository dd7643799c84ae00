"""Adding classes to a trained classifier, and predictions."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_equiangular
import torch
from tiny_equiangular import make_images

import zoo
from zoo.artefact import model_folder
from zoo.core.errors import ZooError
from zoo.families.equiangular import new_classes
from zoo.families.equiangular.encoder import Encoder
from zoo.metrics import classification


@pytest.fixture(scope="module")
def trained_encoder(tmp_path_factory) -> Encoder:
    encoder = tiny_equiangular.train_encoder(tmp_path_factory.mktemp("new-classes"), classes=4, width=16)
    encoder.threshold = None
    return encoder


@pytest.fixture
def encoder(trained_encoder) -> Encoder:
    """The trained encoder, whose state is restored after each test."""
    projection = {name: tensor.clone() for name, tensor in trained_encoder.projection.state_dict().items()}
    state = dict(vars(trained_encoder))
    yield trained_encoder
    vars(trained_encoder).update(state)
    trained_encoder.projection.load_state_dict(projection)


@pytest.fixture(scope="module")
def images_by_label() -> dict[int, list[np.ndarray]]:
    images, labels = make_images(240, 6, seed=4)
    return {label: [image for image, other in zip(images, labels, strict=True) if other == label] for label in range(6)}


@pytest.fixture
def held_out(images_by_label):
    """Inputs of the old classes 0 to 3, and their labels."""
    pairs = [(image, label) for label in range(4) for image in images_by_label[label]]
    return [image for image, _ in pairs], [label for _, label in pairs]


def count_correct(encoder: Encoder, images: list[np.ndarray], labels: list[int]) -> int:
    predictions = encoder.predict(images)
    return sum(prediction.label == label for prediction, label in zip(predictions, labels, strict=True))


def test_new_classes_are_recognised_and_old_ones_stay(encoder, images_by_label, held_out, tmp_path):
    old_vectors = encoder.basis.get_rows(0, 4).clone()
    correct_before = count_correct(encoder, *held_out)
    free = set(range(encoder.basis.count)) - set(encoder.vector_ids)
    encoder.add_classes([4, 5], [images_by_label[4][:20], images_by_label[5][:20]])
    assert encoder.classes == [0, 1, 2, 3, 4, 5]
    assert encoder.vector_ids[:4] == [0, 1, 2, 3]
    assert set(encoder.vector_ids[4:]) <= free
    assert torch.equal(encoder.basis.get_rows(0, 4), old_vectors)
    assert count_correct(encoder, *held_out) >= correct_before - 0.05 * len(held_out[1])
    new_images = images_by_label[4][20:] + images_by_label[5][20:]
    new_labels = [4] * len(images_by_label[4][20:]) + [5] * len(images_by_label[5][20:])
    assert count_correct(encoder, new_images, new_labels) > 0.8 * len(new_labels)
    model_folder.save(encoder, tmp_path / "model")
    opened = zoo.from_pretrained(tmp_path / "model")
    assert opened.predict(new_images[:12]) == encoder.predict(new_images[:12])


def test_new_classes_get_the_free_vectors_nearest_to_their_examples(encoder, images_by_label):
    examples = images_by_label[4][:20]
    mean = torch.from_numpy(encoder.encode(examples)).mean(0)
    cosines = encoder.basis.get_rows() @ mean
    cosines[encoder.vector_ids] = -2
    encoder.add_classes([4], [examples])
    assert encoder.vector_ids[4] == int(cosines.argmax())


def test_the_second_moments_are_the_mean_over_classes_old_and_new(encoder, images_by_label):
    old = encoder.second_moments.clone()
    encoder.add_classes([4], [images_by_label[4]])
    new = new_classes.compute_second_moments(encoder.compute_features(images_by_label[4]))
    assert torch.allclose(encoder.second_moments, (4 * old + new) / 5, atol=1e-5)


def test_the_changed_projection_minimises_the_documented_sum():
    """Moving the solution in any direction raises the sum that the docstring of `_ProjectionChange` gives."""
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(7, 5, generator=generator), torch.randn(3, 5, generator=generator)]
    targets = torch.eye(4)[:2]
    projection = torch.randn(4, 6, generator=generator).double()
    moments = new_classes.compute_second_moments(torch.randn(50, 5, generator=generator))
    change = new_classes._ProjectionChange(features, targets, projection, moments)
    old = moments.double()
    length = (projection @ old @ projection.T).trace().sqrt()

    def compute_sum(weight: torch.Tensor) -> torch.Tensor:
        delta = weight - projection
        fits = sum(
            ((new_classes._append_one(part) @ weight.T - length * target.double()) ** 2).sum(1).mean()
            for part, target in zip(features, targets, strict=True)
        )
        ridge = new_classes.RIDGE * old.diagonal().mean() * (delta**2).sum()
        return fits + 3.0 * (delta @ old @ delta.T).trace() + ridge

    weight = change.solve(3.0).requires_grad_()
    (gradient,) = torch.autograd.grad(compute_sum(weight), weight)
    assert torch.allclose(gradient, torch.zeros_like(gradient), atol=1e-9)


@pytest.mark.parametrize(
    ("names", "example_count", "message"),
    [
        ([3], [1], "already a class 3"),
        ([7, 8], [1], "2 names and 1 lists"),
        ([7], [0], "at least one"),
        ([7, 7], [1, 1], "same name"),
        (["seven"], [1], "of type int"),
        (list(range(10, 20)), [1] * 10, "only 8 of 12 vectors are free"),
    ],
)
def test_classes_that_cannot_be_added_are_refused(encoder, images_by_label, names, example_count, message):
    with pytest.raises(ZooError, match=message):
        encoder.add_classes(names, [images_by_label[4][:count] for count in example_count])


@pytest.mark.parametrize("max_accuracy_drop", [0.0, 1.0])
def test_the_accuracy_on_held_out_inputs_falls_at_most_as_allowed(
    encoder, images_by_label, held_out, max_accuracy_drop
):
    correct_before = count_correct(encoder, *held_out)
    # The hardest case: the examples of the new class are those of an old class.
    keep = encoder.add_classes([4], [images_by_label[0][:20]], held_out=held_out, max_accuracy_drop=max_accuracy_drop)
    lost = correct_before - count_correct(encoder, *held_out)
    if max_accuracy_drop == 0:
        assert lost <= 0
        assert keep > min(new_classes.KEEP_CANDIDATES)
    else:
        assert lost > 0
        assert keep == min(new_classes.KEEP_CANDIDATES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_accuracy_drop": float("nan")}, "max_accuracy_drop: nan"),
        ({"max_accuracy_drop": 1.5}, "must be a share"),
        ({"keep": 2.0}, "either `keep` or `held_out`"),
    ],
)
def test_wrong_options_of_add_classes_are_refused(encoder, images_by_label, held_out, options, message):
    with pytest.raises(ZooError, match=message):
        encoder.add_classes([7], [images_by_label[4][:1]], held_out=held_out, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images, labels: (images, [9] * len(labels)), "9 is not a class"),
        (lambda images, labels: (images, labels[1:]), "160 inputs and 159 labels"),
        (lambda images, labels: ([], []), "0 inputs and 0 labels"),
    ],
)
def test_wrong_held_out_inputs_are_refused(encoder, images_by_label, held_out, change, message):
    with pytest.raises(ZooError, match=message):
        encoder.add_classes([7], [images_by_label[4][:1]], held_out=change(*held_out))


@pytest.mark.parametrize("keep", [0, -1.0, float("inf"), float("nan")])
def test_a_keep_that_is_not_a_positive_number_is_refused(encoder, images_by_label, keep):
    with pytest.raises(ZooError, match="keep: .* must be a finite number above 0"):
        encoder.add_classes([7], [images_by_label[4][:1]], keep=keep)


def test_the_old_names_of_arguments_still_work_and_warn(encoder, images_by_label, held_out):
    with pytest.warns(FutureWarning, match="`held` of add_classes is now called `held_out`") as caught:
        keep = encoder.add_classes([4], [images_by_label[0][:20]], held=held_out)
    assert caught[0].filename == __file__, "the warning points to the caller"
    with pytest.warns(FutureWarning, match="`lose` of add_classes is now called `max_accuracy_drop`"):
        loose_keep = encoder.add_classes([5], [images_by_label[0][:20]], held_out=held_out, lose=1.0)
    assert keep > loose_keep == min(new_classes.KEEP_CANDIDATES)
    with pytest.raises(ZooError, match="`held` is the old name of `held_out`: give one of them"):
        encoder.add_classes([6], [images_by_label[0][:20]], held=held_out, held_out=held_out)


# -- predictions -------------------------------------------------------------------------------------------------------


def test_predict_agrees_with_encode_and_the_basis(encoder):
    images, _ = make_images(6, seed=2)
    cosines = encoder.encode(images) @ encoder.basis.get_rows(0, 4).numpy().T
    for prediction, row in zip(encoder.predict(images), cosines, strict=True):
        assert prediction.label == encoder.classes[row.argmax()]
        assert prediction.cosine == pytest.approx(row.max(), abs=1e-5)
        probabilities = classification.compute_softmax(row[None], encoder.scale)
        assert prediction.probability == pytest.approx(probabilities.max(), abs=1e-5)


def test_a_score_below_the_threshold_gives_no_label(encoder):
    images, _ = make_images(8, 4, seed=2)
    cosines = [prediction.cosine for prediction in encoder.predict(images)]
    encoder.threshold = sorted(cosines)[3]
    expected = [cosine >= encoder.threshold for cosine in cosines]
    assert [prediction.label is not None for prediction in encoder.predict(images)] == expected
    assert sum(expected) == 5
