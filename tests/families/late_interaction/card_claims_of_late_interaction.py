"""The statements of the card of late interaction: see `tests/support/card_claims.py`."""

from __future__ import annotations

from typing import Any

from card_claims import BACKBONE, NO_BASELINE, RESULT, Claim, with_facts

SPEC: dict[str, Any] = {"backbone": BACKBONE}
FACTS: dict[str, Any] = {"prompts": {"query": "query: "}, "dim": 128, "skipped": 32, "expanded_length": 32}
LORA = {"spec": {"lora": {"rank": 4}}}

SAMPLE: dict[str, Any] = {
    "facts": {"dim": 128, "parameters": 22713216, "max_length": 256, "skipped": 32},
    "results": [RESULT | {"view": {}}, RESULT | {"view": {"scoring": "mean"}}],
}


def with_loss(name: str) -> dict[str, Any]:
    return {"spec": {"loss": name}}


CLAIMS = [
    Claim("late-interaction", ("| Dimensions of a token vector | 8 |",), with_facts(dim=8), with_facts(dim=None)),
    Claim("late-interaction", ("| Parameters | 99 |",), with_facts(parameters=99), {}),
    Claim(
        "late-interaction",
        ("| Short queries are filled up to, tokens | 16 |",),
        with_facts(expanded_length=16),
        with_facts(expanded_length=0),
    ),
    Claim("late-interaction", ("| Before a query | `query:` |",), {}, with_facts(prompts={})),
    Claim(
        "late-interaction",
        ('"Before training" is the backbone with its own token states, so the difference is what training added.',),
        {},
        NO_BASELINE,
    ),
    Claim("late-interaction", ("All weights of the backbone were trained.",), {}, LORA),
    Claim(
        "late-interaction",
        ("All weights of the backbone were trained but the token embeddings and the first 2 blocks.",),
        {"spec": {"freeze": 2}},
        {},
    ),
    Claim(
        "late-interaction",
        (
            "The weights of the backbone stayed as they were.",
            "A low-rank adapter of rank 4 on its linear layers was trained, after Hu et al.",
            "(see Citation), and was then added to the weights.",
        ),
        LORA,
        {},
    ),
    Claim(
        "late-interaction",
        (
            "Each step compares every anchor with all positives and hard negatives of its batch.",
            "A text that equals a right answer does not count as wrong.",
        ),
        {},
        with_loss("kl"),
    ),
    Claim(
        "late-interaction",
        ("Each step draws the scores of an anchor and the candidates of its row towards the scores of a teacher.",),
        with_loss("kl"),
        {},
    ),
    Claim("late-interaction", ("- Punctuation of documents does not count.",), {}, with_facts(skipped=0)),
    Claim(
        "late-interaction",
        ("The folder is also a model of sentence-transformers, without zoo and without custom code:",),
        {},
        {"standalone": False},
    ),
]

TESTS = "families/late_interaction/test_late_interaction.py"
PROOFS: list[tuple[tuple[str, ...], str]] = [
    (
        (
            "This is a late-interaction model:",
            "each token of a text becomes a vector,",
            "and a search adds, for each token of the query, its best match among the tokens of a document.",
        ),
        "ops/test_maxsim.py::test_blocks_give_what_a_loop_over_all_tokens_gives",
    ),
    (
        ("gives one vector for each text, the mean of its token vectors.", "These lines compare the token vectors"),
        f"{TESTS}::test_token_vectors_have_unit_norm_and_encode_gives_their_mean",
    ),
    (
        ("The folder is also a model of sentence-transformers, without zoo and without custom code:",),
        f"{TESTS}::test_multi_vector_encoder_opens_the_folder_with_equal_token_vectors",
    ),
    (
        ("The weights of the backbone stayed as they were.", "A low-rank adapter of rank"),
        f"{TESTS}::test_a_trained_adapter_is_merged_into_the_folder",
    ),
    (
        ("All weights of the backbone were trained", "but the token embeddings and the first"),
        f"{TESTS}::test_every_loss_falls_in_training",
    ),
    (
        ("Each step compares every anchor with all positives and hard negatives of its batch.", "A text that equals"),
        f"{TESTS}::test_the_contrastive_loss_is_the_cross_entropy_of_mean_maxsim",
    ),
    (
        ("Each step draws the scores of an anchor and the candidates of its row towards the scores of a teacher.",),
        f"{TESTS}::test_the_distilled_loss_compares_the_candidates_of_a_row_with_the_scores_of_a_teacher",
    ),
    (
        ("- A document takes a vector for each of its tokens,", "so an index is many times larger"),
        f"{TESTS}::test_token_vectors_have_unit_norm_and_encode_gives_their_mean",
    ),
    (("- Punctuation of documents does not count.",), f"{TESTS}::test_punctuation_counts_in_queries_alone"),
]
