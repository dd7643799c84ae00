"""The statements of the card of lbl2vec: see `tests/support/card_claims.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
from card_claims import BACKBONE, NO_BASELINE, Claim, with_facts

TOPIC = {"label": "sport", "keywords": ["ball", "gaol"], "documents": 7, "missing": {"gaol": ["goal", "coal"]}}
SCRATCH = {"spec": {"backbone": None}}

SPEC: dict[str, Any] = {"labels": {"a": ["x"], "b": ["y"]}, "backbone": BACKBONE}
FACTS: dict[str, Any] = {}

TOPICS = [{"label": f"Certain diseases of kind {n}", "keywords": ["a", "b"], "documents": 3} for n in range(22)]
MAP = np.random.default_rng(0).uniform(-1, 1, (222, 2)).round(3).tolist()
SAMPLE: dict[str, Any] = {
        "facts": {
            "topics": TOPICS, "dim": 384,
            "map": {"labels": MAP[:22], "documents": [[*point, n % 22] for n, point in enumerate(MAP[22:])]},
        },
    }  # fmt: skip
FINDINGS: list[tuple[str, dict[str, Any], str]] = [
    (
        "topics",
        {
            "facts": {
                "topics": [{"label": "a"}, {"label": "b"}],
                "map": {"labels": [[0, 0], [1, 1]], "documents": [[0, 1, 1], [1, 0, 1], [1, 1, 0]]},
            }
        },
        "Of 3 documents, 2 are nearest to b, the most of 2 topics, and 1 to a, the fewest.",
    ),
]

CLAIMS = [
    Claim(
        "lbl2vec",
        ("keywords known, without",),
        with_facts(topics=[TOPIC], words=100),
        with_facts(topics=[TOPIC | {"missing": {}}], words=100),
    ),
    Claim(
        "lbl2vec",
        ("did you mean",),
        with_facts(topics=[TOPIC], words=100),
        with_facts(topics=[TOPIC | {"missing": {"gaol": []}}], words=100),
    ),
    Claim("lbl2vec", ("| Dimensions | 5 |",), with_facts(dim=5), {}),
    Claim(
        "lbl2vec",
        ("Keywords that occur in a document also move it towards their topics.",),
        with_facts(keyword_evidence=5.0),
        with_facts(keyword_evidence=0.0),
    ),
    Claim(
        "lbl2vec",
        ("and was not trained further. Its topics were placed with 15,000 rows of rows.",),
        {},
        SCRATCH | {"lock": {"backbone": None}},
    ),
    Claim("lbl2vec", ("It was trained on 15,000 rows of rows.",), SCRATCH | {"lock": {"backbone": None}}, {}),
    Claim(
        "lbl2vec",
        ("The folder is also a plain sentence-transformers model, which encodes documents without zoo.",),
        {},
        {"standalone": False},
    ),
    Claim(
        "lbl2vec",
        ('"Before training" is the sentence encoder alone, for which a topic is no more than its name.',),
        {},
        NO_BASELINE,
    ),
    Claim("lbl2vec", ("Outliers among these documents are left out.",), {}, {"spec": {"clean_outliers": False}}),
    Claim("lbl2vec", ("The keywords themselves are part of it, too.",), {}, {"spec": {"keyword_weight": 0}}),
    Claim(
        "lbl2vec",
        ("; 7 documents; 1 of 2 keywords known, without gaol (did you mean goal or coal?)",),
        with_facts(topics=[TOPIC], words=100),
        with_facts(topics=[TOPIC]),
    ),
    Claim("lbl2vec", ("A document of no topic still gets one.",), {}, {"spec": {"reject_below": 0.5}}),
    Claim("lbl2vec", ("| Topics | 1 |",), with_facts(topics=[TOPIC]), {}),
]

PROOFS: list[tuple[tuple[str, ...], str]] = [
    (
        (
            "This model finds documents by topic, and the topic of a document.",
            "It needs a few keywords for each topic, and no labelled document.",
        ),
        "families/lbl2vec/test_lbl2vec.py::test_paper_in_miniature_keywords_find_their_topic",
    ),
    (
        ("Topics",),
        "families/lbl2vec/test_lbl2vec.py::"
        "test_the_card_shows_topics_their_map_and_as_many_example_documents_as_the_recipe_says",
    ),
    (
        ("These calls find the topic of a document, and the documents of a topic:",),
        "families/lbl2vec/test_lbl2vec.py::test_classify_and_documents_agree",
    ),
    (
        (
            "A text that is exactly the name of a topic is encoded as that topic, so any vector search finds its documents.",
        ),
        "families/lbl2vec/test_lbl2vec.py::"
        "test_a_label_vector_combines_documents_and_keywords_and_the_labels_name_is_encoded_as_it",
    ),
    (
        (
            "The folder is also a plain sentence-transformers model, which encodes documents without zoo.",
            "The vectors of topics stand in `topics.safetensors`:",
        ),
        "families/test_families.py::test_stock_sentence_transformers_gives_the_same_vectors",
    ),
    (
        (
            "The vector of a topic combines the documents that are most similar to its keywords, after Schopf et al.",
            "(see Citation).",
        ),
        "families/lbl2vec/test_lbl2vec.py::test_the_documents_of_a_label_are_the_nearest_within_the_limits",
    ),
    (
        ("Confidence is a softmax over the cosines of a document to all topics.",),
        "families/lbl2vec/test_lbl2vec.py::test_confidence_is_a_softmax_at_temperature_a_twentieth",
    ),
    (
        ("- A topic is what its keywords and the training documents make of it.",),
        "families/lbl2vec/test_lbl2vec.py::test_paper_in_miniature_keywords_find_their_topic",
    ),
    (
        ("A document of no topic still gets one.",),
        "families/lbl2vec/test_lbl2vec.py::test_a_confidence_below_reject_below_gives_no_label",
    ),
]
