"""Augmentation of images: crops, flips, mixup and CutMix."""

from __future__ import annotations

import pytest
import torch

from zoo.families.equiangular import augmentation


def draw_images(count: int = 64, size: int = 9) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=seed_generator(1))


def seed_generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_crop_is_the_shifted_image_with_its_edge_continued():
    images = draw_images()
    cropped = augmentation.apply_crop(images, 2, seed_generator(0))
    assert cropped.shape == images.shape
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2), mode="replicate")
    shifts = set()
    for before, after in zip(padded, cropped, strict=True):
        matches = [(y, x) for y in range(5) for x in range(5) if torch.equal(before[:, y : y + 9, x : x + 9], after)]
        assert len(matches) == 1
        shifts.update(matches)
    assert len(shifts) > 10, "images are shifted differently"
    assert torch.equal(augmentation.apply_crop(images, 0, seed_generator(0)), images)


def test_a_flip_mirrors_about_half_of_the_images():
    images = draw_images()
    flipped = augmentation.apply_flip(images, seed_generator(0))
    is_same, is_mirrored = ((flipped == other).flatten(1).all(1) for other in (images, images.flip(3)))
    assert (is_same ^ is_mirrored).all()
    assert 15 < int(is_same.sum()) < 49


@pytest.mark.parametrize("method", [augmentation.apply_mixup, augmentation.apply_cutmix])
def test_the_brightness_of_mixed_images_follows_the_weights(method):
    images = torch.arange(64.0).view(-1, 1, 1, 1).expand(-1, 3, 9, 9).clone()
    for seed in range(20):
        mixed, partners, weights = method(images, 1.0, seed_generator(seed))
        own, other = torch.arange(64.0), partners.float()
        assert torch.allclose(mixed.mean((1, 2, 3)), weights * own + (1 - weights) * other, atol=1e-4)
        assert 0 <= float(weights[0]) <= 1


def test_the_seed_alone_decides_the_augmented_batch():
    images = draw_images()
    settings = {"crop": 2, "flip": True, "mixup": 1.0, "cutmix": 1.0}
    torch.manual_seed(0)
    batch = augmentation.augment(images, 3, **settings)
    torch.manual_seed(1)
    for first, second in zip(batch, augmentation.augment(images, 3, **settings), strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(batch[0], augmentation.augment(images, 4, **settings)[0])


def test_an_alpha_of_0_turns_a_method_off_and_two_methods_take_turns():
    images = draw_images(8)
    unmixed, partners, weights = augmentation.mix_images(images, 0, 0, seed_generator(0))
    assert (partners, weights) == (None, None)
    assert torch.equal(unmixed, images)
    methods = set()
    for seed in range(20):
        mixed = augmentation.mix_images(images, 1.0, 1.0, seed_generator(seed))[0]
        # CutMix copies pixels; mixup makes new values.
        methods.add(bool(torch.isin(mixed, images).all()))
    assert methods == {True, False}
