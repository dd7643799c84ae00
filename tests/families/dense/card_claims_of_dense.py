"""The statements of the card of dense: see `tests/support/card_claims.py`."""

from __future__ import annotations

from typing import Any

from card_claims import ADVICE, BACKBONE, NO_BASELINE, RESULT, Claim, with_facts

SPEC: dict[str, Any] = {"backbone": BACKBONE}
FACTS: dict[str, Any] = {"prompts": {"query": "query: "}, "pooling": "mean", "dim": 384}
LORA = {"spec": {"lora": {"rank": 4}}}

CUTS = [RESULT | {"view": {"dim": dim} if dim < 384 else {}, "sentences_per_second": 1000.0 - dim} for dim in (384, 64)]
SAMPLE: dict[str, Any] = {
    "facts": {"dims": [64, 384], "dim": 384, "parameters": 22713216, "pooling": "mean", "max_length": 256},
    "results": CUTS,
}


def with_loss(name: str) -> dict[str, Any]:
    return {"spec": {"loss": name}}


CLAIMS = [
    Claim("dense", ("| Dimensions trained for | 4, 8 |",), with_facts(dims=[4, 8]), {}),
    Claim("dense", ("| Dimensions | 8 |",), with_facts(dim=8), with_facts(dims=[4, 8])),
    Claim("dense", ("| Parameters | 99 |",), with_facts(parameters=99), {}),
    Claim("dense", ("| Pooling | last |",), with_facts(pooling="last"), {}),
    Claim(
        "dense",
        (
            "| Before a query | `query:` |",
            "A prompt stands before query. Say which of them a text is, and the prompt is put there.",
            "With sentence-transformers these are `model.encode_query` and `model.encode_document`.",
        ),
        {},
        with_facts(prompts={}),
    ),
    Claim(
        "dense",
        (
            "A view keeps the first components, and gives vectors of unit length:",
            "This command saves one view alone, without the components beyond it.",
            "Plain sentence-transformers opens the new folder:",
        ),
        {"results": [{"task": "t", "view": {}}, {"task": "t", "view": {"dim": 2}}]},
        {},
    ),
    Claim(
        "dense",
        ('"Before training" is the backbone with the same pooling, so the difference is what training added.',),
        {},
        NO_BASELINE,
    ),
    Claim("dense", ("All weights of the backbone were trained.",), {}, LORA),
    Claim(
        "dense",
        ("All weights of the backbone were trained but the token embeddings and the first 2 blocks.",),
        {"spec": {"freeze": 2}},
        {},
    ),
    Claim(
        "dense",
        (
            "The weights of the backbone stayed as they were.",
            "A low-rank adapter of rank 4 on its linear layers was trained, after Hu et al. (see Citation), and was then "
            "added to the weights.",
        ),
        LORA,
        {},
    ),
    Claim(
        "dense",
        ("A low-rank adapter of rank 4 on its linear layers was trained, after Hu et al. (see Citation).",),
        {"spec": {"lora": {"rank": 4, "keep": "adapter"}}},
        LORA,
    ),
    Claim(
        "dense",
        (
            "Each step compares every anchor with all positives and hard negatives of its batch.",
            "A text that equals a right answer does not count as wrong.",
        ),
        {},
        with_loss("cosent"),
    ),
    Claim(
        "dense",
        ("Nor does a text that a second encoder, the guide, finds about as similar as the right answer.",),
        {"spec": {"guide": {"model": BACKBONE}}},
        {},
    ),
    Claim(
        "dense",
        ("Each step ranks the pairs of a batch by their cosines, as their scores rank them.",),
        with_loss("angle"),
        {},
    ),
    Claim("dense", ("Each step moves an anchor nearer to its positive than to negatives.",), with_loss("triplet"), {}),
    Claim(
        "dense",
        (
            "Each step draws the similarities of an anchor and the candidates of its row towards the scores of a teacher.",
        ),
        with_loss("kl"),
        {},
    ),
    Claim(
        "dense",
        ("Each step moves texts of a class nearer to one another than to texts of other classes.",),
        with_loss("icnn"),
        {},
    ),
    Claim("dense", ("The loss is the mean over the widths above.",), with_facts(dims=[4, 8]), {}),
]

PROOFS: list[tuple[tuple[str, ...], str]] = [
    (
        (
            "This is a sentence embedding model:",
            "a text becomes one vector, and texts of similar meaning have similar vectors.",
        ),
        "families/dense/test_dense.py::test_every_loss_falls_in_training",
    ),
    (
        ("A prompt stands before",),
        "families/dense/test_dense.py::test_prompts_stand_before_the_texts_of_their_role_in_training",
    ),
    (
        ("A view keeps the first components, and gives vectors of unit length:",),
        "families/dense/test_dense.py::test_a_view_is_the_first_components_renormalised",
    ),
    (
        ("The weights of the backbone stayed as they were.", "A low-rank adapter of rank"),
        "families/dense/test_dense.py::test_an_adapter_is_trained_alone_and_merged_into_a_whole_model",
    ),
    (
        (
            "All weights of the backbone were trained",
            "but the token embeddings and the first",
        ),
        "families/dense/test_dense_backbones.py::test_freezing_keeps_the_embeddings_and_the_first_blocks",
    ),
    (
        (
            "Each step compares every anchor with all positives and hard negatives of its batch.",
            "Each step ranks the pairs of a batch by their cosines, as their scores rank them.",
            "Each step moves an anchor nearer to its positive than to negatives.",
            "Each step draws the similarities of an anchor and the candidates of its row towards the scores of a teacher.",
            "Each step moves texts of a class nearer to one another than to texts of other classes.",
        ),
        "families/dense/test_dense.py::test_every_loss_falls_in_training",
    ),
    (
        (
            "A text that equals a right answer does not count as wrong.",
            "Nor does a text that a second encoder, the guide, finds about as similar as the right answer.",
        ),
        "families/dense/test_dense.py::test_a_guide_masks_candidates_that_it_finds_as_similar_as_the_positive",
    ),
    (
        ("The loss is the mean over the widths above.",),
        "families/dense/test_dense.py::test_the_loss_is_the_mean_over_the_widths",
    ),
    (("- It compares whole texts.", "A single sentence of a long text may not show in its vector."), ADVICE),
]
