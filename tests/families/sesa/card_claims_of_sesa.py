"""The statements of the card of sesa: see `tests/support/card_claims.py`."""
# ruff: noqa: E501

from __future__ import annotations

from typing import Any

from card_claims import BACKBONE, NO_BASELINE, Claim, with_facts, with_picture

OPAQUE = {"facts": {"space": "opaque"}}
EXAMPLE = {"a": "x", "b": "y", "score": 0.5, "parts": [{"name": "c", "share": 0.25}]}
RANKED = [{"name": "c", "precision": 0.5, "texts": 4}]

SPEC: dict[str, Any] = {"concepts": {"source": "builtin", "name": "icd10cm", "table": "tree"}, "backbone": BACKBONE}
FACTS: dict[str, Any] = {"dim": 9, "active": 3, "space": "concepts"}

SAMPLE: dict[str, Any] = {
        "facts": {
            "deletion": {"explained": [0.75, 0.5, 0.25], "random": [0.75, 0.75, 0.625]}, "deleted_more": 0.75, "pairs": 8,
            "examples": [{"a": "x", "b": "y", "score": 0.5, "parts": [{"name": "c", "share": 0.25}]}],
            "reliable": [{"name": "c", "precision": 0.5, "texts": 4}],
            "unreliable": [{"name": "d", "precision": 0.25, "texts": 4}],
            "ranking": {"concepts": [0.5, 0.5, 0.5], "opaque": [0.5, 0.5, 0.5]},
        },
    }  # fmt: skip
FINDINGS: list[tuple[str, dict[str, Any], str]] = [
    (
        "deletion",
        {"facts": {"deletion": {"explained": [0.75, 0.5, 0.25], "random": [0.75, 0.75, 0.625]}}},
        "Without the 2 that explain the score most, 0.2500 of 0.7500 are left; without 2 random ones, 0.6250.",
    ),
]

CLAIMS = [
    Claim(
        "sesa",
        ("The model knows only their names: c and others.",),
        with_facts(bare=["c"], bare_count=2),
        with_facts(bare=["c"], bare_count=1),
    ),
    Claim("sesa", ("| Concepts |", "| Largest number of active"), {}, with_facts(dim=None, active=None)),
    Claim(
        "sesa", ("in a space whose dimensions have no meaning, as a baseline of one with named concepts.",), OPAQUE, {}
    ),
    Claim(
        "sesa",
        (
            "This model compares texts in a space whose dimensions are named concepts. Every score comes with its explanation.",
            "| Concepts | 9 |",
            "| Largest number of active concepts in a text | 3 |",
            "Show why two texts score as they do, list the concepts of a text, and remove a concept from every score:",
            "A component is the evidence for a concept in the text, beyond that in an average text.",
            "A parent concept is never less active than its children.",
            "Check which concepts are unreliable before you use an explanation for a decision.",
        ),
        {},
        OPAQUE,
    ),
    Claim(
        "sesa",
        (
            "| Dimensions | 9 |",
            "| Largest number of active dimensions in a text | 3 |",
            "Two towers and a linear map were trained by the ranking of pairs alone. The components have no meaning.",
        ),
        OPAQUE,
        {},
    ),
    Claim("sesa", ("The trained backbone is also a plain",), {"spec": {"backbone_lr_scale": 0.05}}, {}),
    Claim("sesa", ("The backbone, which was not trained, is also a plain",), {}, {"spec": {"backbone_lr_scale": 0.05}}),
    Claim(
        "sesa",
        (
            "Training brought no gain on held-out pairs, so the concepts are as their names and tagged texts initialised them.",
        ),
        with_facts(choice={"trains": False}),
        with_facts(choice={"trains": True}),
    ),
    Claim(
        "sesa",
        (
            "No concept explains 25.0 % of a score: that share is the cosine of vectors without concepts, which are those of the "
            "backbone or the mean embeddings of the subwords.",
        ),
        with_facts(unnamed_share=0.25),
        {},
    ),
    Claim(
        "sesa",
        ("which are sums of fixed vectors of the subwords, by latent semantic analysis and by chance.",),
        with_facts(unnamed_share=0.25, lexical_dim=1024),
        with_facts(unnamed_share=0.25, lexical_dim=0),
    ),
    Claim("sesa", ("is also a plain sentence-transformers model, without the concepts.",), {}, {"standalone": False}),
    Claim("sesa", ('"Before training" is the sentence encoder alone.',), {}, NO_BASELINE),
    Claim(
        "sesa",
        ("The ranking of pairs alone trained towers and concepts (see Citation).",),
        {"spec": {"supervision": 0}},
        {},
    ),
    Claim(
        "sesa",
        (
            "Two objectives trained towers and concepts together: the ranking of pairs, and the concepts that texts are tagged with",
            "A text without tags counts for the ranking alone.",
        ),
        {},
        {"spec": {"supervision": 0}},
    ),
    Claim(
        "sesa",
        ("of pairs, and the names of the concepts (see Citation).",),
        with_facts(bare_count=9),
        with_facts(bare_count=8),
    ),
    Claim(
        "sesa",
        (
            "These are held-out pairs, from the best score to a median one.",
            "Each lists the concepts with the largest contributions and their share of the score.",
        ),
        with_facts(examples=[EXAMPLE]),
        {},
    ),
    Claim(
        "sesa",
        (
            "Precision is the share of texts that are tagged with a concept, among the held-out texts in which it is the likeliest "
            "of its level.",
            "| Most reliable | Precision | Texts |",
            "- Precision is measured against tags, and tags rarely cover everything that a text is about.",
        ),
        with_facts(reliable=RANKED),
        {},
    ),
    Claim(
        "sesa",
        ("| Least reliable | Precision | Texts |",),
        with_facts(reliable=RANKED, unreliable=RANKED),
        with_facts(reliable=RANKED),
    ),
    Claim(
        "sesa",
        (
            "Deleting the leading concepts lowers the score more than deleting as many random active ones in 25.0 % of 8 "
            "held-out pairs.",
        ),
        with_facts(deleted_more=0.25, pairs=8) | with_picture("deletion"),
        with_picture("deletion"),
    ),
    Claim(
        "sesa",
        (
            "The opaque baseline has the same towers and as many components, and was trained on the same pairs for as long, "
            "without concepts.",
            "These scores measure how well held-out texts retrieve their pairs among all held-out texts:",
            "| Space | nDCG at ten | MAP | AUC |",
        ),
        with_facts(ranking={"concepts": [0.5, 0.5, 0.5], "opaque": [0.5, 0.5, 0.5]}),
        with_facts(ranking={"concepts": [0.5, 0.5, 0.5]}),
    ),
    Claim(
        "sesa",
        ("- No training text was tagged with 2 of the concepts. The model knows only their names: c and others.",),
        with_facts(bare=["c"], bare_count=2),
        {},
    ),
]

PROOFS: list[tuple[tuple[str, ...], str]] = [
    (
        ("A search in an inverted index reads only the lists of the query's own components:",),
        "families/sesa/test_sesa.py::test_the_index_finds_what_the_whole_matrix_ranks_first",
    ),
    (
        ("The", "is also a plain sentence-transformers model, without the concepts."),
        "families/sesa/test_sesa.py::test_a_backbone_is_saved_so_that_sentence_transformers_opens_it",
    ),
    (
        ("Every score comes with its explanation.",),
        "families/sesa/test_sesa.py::test_contributions_sum_to_the_score_and_deleting_a_concept_removes_its_contribution",
    ),
    (
        ("A parent concept is never less active than its children.",),
        "families/sesa/test_sesa.py::test_vectors_are_sparse_unit_vectors_and_no_parent_is_below_its_child",
    ),
    (
        ("A text without tags counts for the ranking alone.",),
        "families/sesa/test_sesa_space.py::test_a_row_without_tags_gets_no_gradient",
    ),
    (
        ("No training text was tagged with", "The model knows only their names:"),
        "families/sesa/test_sesa.py::test_a_concept_without_tagged_texts_is_recognised_by_its_name",
    ),
    (
        ("Precision is the share of texts that are tagged with a concept",),
        "families/sesa/test_sesa_space.py::test_precision_is_the_share_of_tagged_texts_among_those_that_a_concept_leads",
    ),
    (
        ("The opaque baseline has the same towers and as many components",),
        "families/sesa/test_sesa.py::test_a_recipe_trains_the_opaque_baseline_too_and_the_card_shows_the_measurements",
    ),
]
