"""Converted copies are made once for each precision and view, and their memory is bounded."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest
import tiny

import zoo
from zoo.text import conversions
from zoo.text.conversions import CACHE, ConversionCache


class Owner:
    """Something whose copies are kept."""


class Counter:
    """Makes copies that need `size` bytes, and counts them."""

    def __init__(self, size: int = 10) -> None:
        self.size, self.count = size, 0

    def __call__(self) -> tuple[object, dict[int, int]]:
        self.count += 1
        return object(), {self.count: self.size}


def test_a_copy_is_made_once_for_each_key_and_again_if_the_stamp_differs():
    cache, owner, make = ConversionCache(1000), Owner(), Counter()
    first = cache.get(owner, "a", 1, make)
    assert cache.get(owner, "b", 1, make) is not first
    assert cache.get(owner, "a", 1, make) is first
    assert cache.get(owner, "a", 2, make) is not first
    assert make.count == 3
    assert cache.count_bytes(owner) == 20
    assert cache.list_keys(owner) == ["b", "a"]


def test_the_least_recently_used_copy_goes_first_and_the_newest_always_stays():
    cache, owner, make = ConversionCache(30), Owner(), Counter()
    for key in ("a", "b", "c", "a", "d"):
        cache.get(owner, key, 1, make)
    assert cache.list_keys(owner) == ["c", "a", "d"]
    cache.get(owner, "large", 1, Counter(99))
    assert cache.list_keys(owner) == ["large"]


def test_what_copies_share_counts_once():
    cache, owners = ConversionCache(1000), [Owner(), Owner()]
    for owner, own_part in zip(owners, (2, 3), strict=True):
        cache.get(owner, "a", 1, lambda part=own_part: (object(), {1: 500, part: 10}))
    assert cache.count_bytes() == 520
    assert cache.count_bytes(owners[0]) == 510


def test_copies_go_with_their_owner():
    cache, owner = ConversionCache(1000), Owner()
    cache.get(owner, "a", 1, Counter())
    del owner
    gc.collect()
    assert cache.count_bytes() == 0


def test_the_environment_sets_the_limit(monkeypatch):
    monkeypatch.setenv(conversions.VARIABLE, "3")
    assert conversions.read_limit() == 3 << 20
    monkeypatch.setenv(conversions.VARIABLE, "much")
    assert conversions.read_limit() == conversions.DEFAULT_LIMIT_MB << 20


# -- through an encoder --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["bert", "modernbert"])
def encoder(request, tmp_path_factory):
    return zoo.from_pretrained(tiny.backbone(tmp_path_factory.mktemp("conversions") / request.param, request.param))


@pytest.fixture
def made(monkeypatch) -> list[object]:
    """The stamps of all copies that are made."""
    stamps, make = [], conversions.Conversion

    def record(value, stamp, parts):
        stamps.append(stamp)
        return make(value, stamp, parts)

    monkeypatch.setattr(conversions, "Conversion", record)
    return stamps


def test_alternating_precisions_and_views_converts_each_once(encoder, made):
    expected = {}
    for _ in range(3):
        for layers, dim, precision in ((3, 32, "fp32"), (2, 16, "fp32"), (3, 32, "bf16"), (2, 16, "bf16")):
            vectors = encoder.truncate(layers, dim).encode(tiny.SENTENCES[:3], precision=precision)
            np.testing.assert_array_equal(vectors, expected.setdefault((layers, precision), vectors))
    assert len(made) == 4
    assert encoder.converted_bytes > 0


def test_a_view_that_was_used_before_has_the_engine_of_before(encoder):
    assert encoder.truncate(2, 8)._get_engine() is encoder.truncate(2, 8)._get_engine()
    assert encoder.truncate(2, 8)._get_engine() is not encoder.truncate(2, 9)._get_engine()


def test_copies_beyond_the_limit_are_dropped_and_made_again(encoder, made, monkeypatch):
    exact = encoder.encode(tiny.SENTENCES[:3])
    monkeypatch.setattr(CACHE, "limit", 1)
    encoder._forget_engines()
    for _ in range(2):
        encoder.encode(tiny.SENTENCES[:3], precision="bf16")
        np.testing.assert_array_equal(encoder.encode(tiny.SENTENCES[:3]), exact)
    assert len(made) == 4


def test_threads_that_use_different_views_and_precisions_get_their_own_vectors(encoder):
    views = [(3, 32, "fp32"), (1, 8, "fp32"), (2, 32, "bf16"), (3, 16, "bf16")]
    texts = tiny.SENTENCES[:40]

    def encode(layers: int, dim: int, precision: str) -> np.ndarray:
        return encoder.truncate(layers, dim).encode(texts, precision=precision)

    expected = [encode(*view) for view in views]
    encoder._forget_engines()
    encoder.module.train()  # another thread must not bring dropout into a pass
    results: dict[tuple[int, int], np.ndarray] = {}

    def work(number: int) -> None:
        for turn in range(4):
            place = (number + turn) % len(views)
            results[number, turn] = encode(*views[place])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    encoder.module.eval()
    assert len(results) == 16
    for (number, turn), vectors in results.items():
        np.testing.assert_allclose(vectors, expected[(number + turn) % len(views)], atol=1e-6)
