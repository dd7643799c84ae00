"""A step of scores behind a step for codes takes queries as the codes transform them, also if that changes their size."""

from __future__ import annotations

from types import SimpleNamespace

import after_steps
import numpy as np
import pytest
import tiny

import zoo
from zoo.after.material import Material
from zoo.index import answers


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """An encoder of 32 components with codes of 16 components, and the map of their scores."""
    opened = zoo.from_pretrained(tiny.backbone(tmp_path_factory.mktemp("scores") / "backbone"))
    material = after_steps.make_material(dim=32)
    codes = after_steps.fit("codes", material, dims=16, bits=4, steps=0)
    decoded = Material(
        codes.decode(codes.encode(material.documents)),
        queries=codes.transform_queries(material.queries),
        answers=material.answers,
        foreign=codes.transform_queries(material.foreign),
    )
    opened.attach_steps([codes, after_steps.fit("relevance", decoded)])
    return opened


def test_both_steps_are_saved_and_opened(encoder, tmp_path):
    again = zoo.from_pretrained(encoder.save(tmp_path / "model"))
    assert [(step.spec.step, step.dim) for step in again.steps] == [
        (step.spec.step, step.dim) for step in encoder.steps
    ]
    assert encoder.steps[1].dim == encoder.steps[0].decoded_dim


def test_an_index_maps_the_scores_of_transformed_queries(encoder):
    codes, relevance = encoder.steps
    queries = after_steps.draw_clustered(5, 32, seed=3)
    assert np.array_equal(answers.transform_queries(encoder, queries), codes.transform_queries(queries))
    scores, _ = codes.search(queries, codes.encode(after_steps.draw_clustered(300, 32)), 50)
    assert relevance.map_scores(answers.transform_queries(encoder, queries), scores).shape == (5, 50)
    assert answers.transform_queries(SimpleNamespace(), queries) is queries
