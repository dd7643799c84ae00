"""A tiny encoder, and rows with columns of every kind."""

from __future__ import annotations

import pytest
import tiny
import tiny_rows

import zoo


@pytest.fixture(scope="session")
def backbone(tmp_path_factory):
    return tiny.backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="session")
def encoder(backbone):
    return zoo.from_pretrained(backbone)


@pytest.fixture(scope="session")
def rows():
    return tiny_rows.make_rows(300)


@pytest.fixture
def index(encoder, rows, tmp_path):
    return zoo.Index.build(encoder, rows, tmp_path / "index")
