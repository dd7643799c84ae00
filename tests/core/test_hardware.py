"""What zoo asks of the C library and of the libraries that multiply."""

from __future__ import annotations

import os

from zoo.core import hardware


def test_caches_of_kernels_are_small_unless_the_user_sets_them(monkeypatch):
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    hardware.keep_large_blocks.__wrapped__()
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "128"
    assert os.environ["LRU_CACHE_CAPACITY"] == "7"
    monkeypatch.delenv("LRU_CACHE_CAPACITY")
    hardware.keep_large_blocks.__wrapped__()
    assert os.environ["LRU_CACHE_CAPACITY"] == "4"
