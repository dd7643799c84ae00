"""The statements of the card of static: see `tests/support/card_claims.py`."""

from __future__ import annotations

from typing import Any

from card_claims import BACKBONE, NO_BASELINE, RESULT, Claim, with_facts

SPEC: dict[str, Any] = {"backbone": BACKBONE}
FACTS: dict[str, Any] = {}

CUTS = [RESULT | {"view": {"dim": dim} if dim < 256 else {}, "sentences_per_second": 1000.0 - dim} for dim in (256, 64)]
SAMPLE: dict[str, Any] = {
    "facts": {"dims": [64, 256], "dim": 256, "tokens": 30000, "regression_texts": 40000},
    "results": CUTS,
}

CLAIMS = [
    Claim("static", ("| Dimensions trained for | 4, 8 |",), with_facts(dims=[4, 8]), {}),
    Claim("static", ("| Dimensions | 8 |", "| Tokens | 99 |"), with_facts(dim=8, tokens=99), with_facts(dims=[4, 8])),
    Claim(
        "static",
        (
            "A view keeps the first components, and gives vectors of unit length:",
            "This command saves one view alone, without the components beyond it.",
            "Plain sentence-transformers opens the new folder:",
        ),
        {"results": [{"task": "t", "view": {}}, {"task": "t", "view": {"dim": 2}}]},
        {},
    ),
    Claim(
        "static",
        ('"Before training" is the distilled model as it was before it saw the training data.',),
        {},
        NO_BASELINE,
    ),
    Claim(
        "static",
        ("and multiplied by a weight that falls with the token's frequency (SIF), as in the software under Citation.",),
        {},
        {"spec": {"sif_coefficient": None}},
    ),
    Claim(
        "static",
        ("with equal weights for all tokens, after the software under Citation.",),
        {"spec": {"sif_coefficient": None}},
        {},
    ),
    Claim(
        "static",
        (
            "They are then fitted, by ridge regression, to the backbone's own vectors of 9 training texts at most.",
            "At last an in-batch contrastive loss trains them.",
        ),
        with_facts(regression_texts=9),
        with_facts(regression_texts=0),
    ),
    Claim("static", ("Then an in-batch contrastive loss trains them.",), {}, with_facts(regression_texts=9)),
    Claim(
        "static",
        (
            "The tokens are subwords that were learned from the training texts by byte-pair encoding.",
            "They start at the vectors of latent",
            "semantic analysis (LSA) of these texts, times their inverse document frequency.",
        ),
        {"spec": {"vocabulary": "texts"}},
        {},
    ),
    Claim(
        "static",
        (
            "Every token of the vocabulary runs through the backbone alone.",
            "The resulting vectors are projected on their principal components",
        ),
        {},
        {"spec": {"vocabulary": "texts"}},
    ),
]

PROOFS: list[tuple[tuple[str, ...], str]] = [
    (
        (
            "This is a static embedding model.",
            "Every token has one vector, and a text is the mean of its tokens.",
        ),
        "families/static/test_static.py::test_a_text_is_the_mean_of_its_token_vectors_normalised",
    ),
    (
        ("No network runs, and it opens without torch.",),
        "families/static/test_static.py::test_opening_and_encoding_import_no_torch",
    ),
    (
        ("They are then fitted, by ridge regression, to the backbone's own vectors of",),
        "families/static/test_static.py::test_the_regression_equals_the_solution_of_the_normal_equations",
    ),
    (
        ("A view keeps the first components, and gives vectors of unit length:",),
        "families/static/test_static.py::test_a_view_is_the_first_components_renormalised",
    ),
    (
        (
            "- The order of words does not matter to it:",
            '"dog bites man" and "man bites dog" have the same vector.',
            "- A token has one vector, whatever its neighbours make it mean.",
        ),
        "families/static/test_static.py::test_a_text_is_the_mean_of_its_token_vectors_normalised",
    ),
]
