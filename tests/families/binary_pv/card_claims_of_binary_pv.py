"""The statements of the card of binary-pv: see `tests/support/card_claims.py`."""
# ruff: noqa: E501

from __future__ import annotations

from typing import Any

from card_claims import Claim, with_facts

SPEC: dict[str, Any] = {}
FACTS: dict[str, Any] = {"variant": "dbow", "anchors": 40, "bits": 8}

SAMPLE: dict[str, Any] = {
        "facts": {"words": 9000, "real": 300, "variant": "real-binary", "lsa_start": True},
        "metrics": [{"step": step, "loss": 9 / step, "phase": "vectors"} for step in range(1, 9)],
    }  # fmt: skip

CLAIMS = [
    Claim(
        "binary-pv",
        ("The vectors of words start from a latent semantic analysis of the training texts, because these are few.",),
        with_facts(lsa_start=True),
        with_facts(lsa_start=False),
    ),
    Claim(
        "binary-pv",
        ("After training, they are averaged with those of the analysis, which count 66.1 %.",),
        with_facts(lsa_start=True, lsa_share=0.661),
        with_facts(lsa_start=True, lsa_share=0.0),
    ),
    Claim("binary-pv", ("| Bits | 8 |", "| Words it knows | 6 |"), with_facts(words=6), with_facts(bits=None)),
    Claim("binary-pv", ("| Components of the real vector | 5 |",), with_facts(real=5), with_facts(real=0)),
    Claim(
        "binary-pv",
        ("The real vectors rank what the codes have found; `encoder.encode(texts, real=True)` gives them:",),
        with_facts(variant="real-binary"),
        {},
    ),
    Claim(
        "binary-pv",
        ("vectors by predicting the words of each document and those around each",),
        {},
        with_facts(variant="dm"),
    ),
    Claim(
        "binary-pv",
        (
            "Documents and words learn vectors together. The mean of a document and of the words around a place predicts the word there, against noise words.",
        ),
        with_facts(variant="dm"),
        {},
    ),
    Claim(
        "binary-pv",
        ("The mean is drawn towards 40 vectors that stand for the training texts.",),
        {},
        with_facts(anchors=0),
    ),
]

PROOFS: list[tuple[tuple[str, ...], str]] = [
    (
        (
            "This document encoder gives binary codes.",
            "They are learned from raw text alone and compared by Hamming distance.",
        ),
        "families/binary_pv/test_binary_pv.py::test_a_recipe_trains_an_encoder_scores_its_codes_and_writes_the_card",
    ),
    (
        ("Codes are packed, eight bits a byte.",),
        "families/binary_pv/test_binary_pv.py::test_hamming_distance_of_packed_bits_equals_that_of_unpacked_bits",
    ),
    (
        ("They can be searched as they are, here with faiss (the extra `faiss`):",),
        "families/binary_pv/test_binary_pv.py::test_faiss_finds_the_same_distances_as_hamming",
    ),
    (
        ("A text starts as the mean of its words' vectors, in which rare words count more.",),
        "paragraph_vectors/test_code_layer.py::test_word_means_are_weighted_sums_of_unit_vectors_and_zero_without_words",
    ),
    (
        ("The first code is the signs of that mean on rotated axes, on which rounding loses least.",),
        "paragraph_vectors/test_kernels.py::test_a_rotation_loses_less_by_rounding_than_the_axes_it_starts_from",
    ),
    (
        ("From there the code is trained to predict the words of its text.",),
        "paragraph_vectors/test_kernels.py::test_a_compiled_step_is_the_gradient_that_autograd_finds",
    ),
    (
        ("Rounding passes its gradient on as if it were not there (see Citation, where codes start at random).",),
        "paragraph_vectors/test_kernels.py::test_rounding_passes_the_gradient_of_the_sigmoid",
    ),
    (
        ("A text that was not in the training gets its code by the same steps, with the words frozen.",),
        "paragraph_vectors/test_paragraph_vectors.py::test_a_settled_training_text_has_the_vector_that_is_inferred_for_it",
    ),
    (
        ("- A word that was not in the training texts tells it nothing;",),
        "paragraph_vectors/test_vocabulary.py::test_words_are_ordered_by_count_and_unknown_words_are_skipped",
    ),
    (
        ("a text without a known word has a code of zeros.",),
        "paragraph_vectors/test_paragraph_vectors.py::test_a_text_without_a_known_word_gets_zeros_and_no_texts_give_an_empty_array",
    ),
]
