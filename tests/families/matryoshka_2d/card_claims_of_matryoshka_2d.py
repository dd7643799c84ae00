"""The statements of the card of matryoshka-2d: see `tests/support/card_claims.py`."""

from __future__ import annotations

from typing import Any

from card_claims import ADVICE, BACKBONE, NO_BASELINE, RESULT, Claim, with_facts

TWO_D_MSE = {"facts": {"objective": "2dmse"}, "spec": {"objective": "2dmse"}}
CUT = with_facts(layers=6, dims=[4, 8])

SPEC: dict[str, Any] = {"backbone": BACKBONE}
FACTS: dict[str, Any] = {"prompts": {"query": "query: "}, "objective": "elastic"}

GRID = [
    RESULT
    | {
        "task": "icd10cm-terms", "metric": "ndcg_at_10", "view": {"layers": layers, "dim": dim}, "bytes_per_vector": 4 * dim,
        "value": 0.3 + 0.05 * layers + 0.0005 * dim, "baseline": 0.1 + 0.0625 * layers, "sentences_per_second": 3000 / layers,
    }
    for layers in range(1, 7)
    for dim in (32, 64, 128, 256, 384)
]  # fmt: skip
SAMPLE: dict[str, Any] = {
        "facts": {"layers": 6, "dim": 384, "dims": [32, 64, 128, 256, 384], "max_length": 256},
        "results": GRID,
    }  # fmt: skip

CLAIMS = [
    Claim("matryoshka-2d", ("| Layers |",), CUT, {}),
    Claim("matryoshka-2d", ("| Layers | any number from 1 to 6 |",), CUT, {}),
    Claim("matryoshka-2d", ("| Dimensions trained for | 4, 8 |",), CUT, {}),
    Claim("matryoshka-2d", ("| Dimensions | 8 |",), with_facts(dim=8), CUT),
    Claim(
        "matryoshka-2d", ("| Dimensions | any number from 1 to 8 |",), with_facts(dim=8, heads="after training"), CUT
    ),
    Claim(
        "matryoshka-2d",
        ("| Parameters | 30 (6 layers) to 10 (1 layer) |",),
        with_facts(parameters={"1": 10, "6": 30}),
        {},
    ),
    Claim(
        "matryoshka-2d",
        (
            "| Before a query | `query:` |",
            "Its backbone has a prompt before query, which training on scored pairs did not use. "
            "Say which of them a text is, and the prompt is put there.",
            "With sentence-transformers these are `model.encode_query` and `model.encode_document`.",
        ),
        {},
        with_facts(prompts={}),
    ),
    Claim(
        "matryoshka-2d",
        (
            "It was trained with a prompt before query and document. "
            "Say which of them a text is, and the prompt is put there.",
        ),
        {"spec": {"loss": "contrastive"}} | with_facts(prompts={"query": "q", "document": "d"}),
        {},
    ),
    Claim("matryoshka-2d", ("which training on scored pairs did not use",), {}, {"spec": {"loss": "contrastive"}}),
    Claim(
        "matryoshka-2d",
        (
            "A cut shares its tensors with the whole model and gives vectors of unit length:",
            "This command saves one cut alone, without the layers and dimensions beyond it.",
            "Plain sentence-transformers opens the new folder:",
        ),
        CUT,
        {},
    ),
    Claim(
        "matryoshka-2d",
        (
            '"Before training" is the backbone cut in the same way, so the difference is what training added to that cut.',
            "A grid gives the score before training in brackets.",
        ),
        {},
        NO_BASELINE,
    ),
    Claim(
        "matryoshka-2d",
        (
            "Every layer has a linear head. Before training, the heads are fitted in closed form (ridge regression) to the "
            "embedding of the untrained full depth.",
            "That embedding is rotated, and its first components carry the most.",
            "Each step then trains the whole model and its cuts with the same sentence loss.",
            "It also draws the shallow vectors towards those of the full depth, after Li et al. (see Citation).",
        ),
        {},
        TWO_D_MSE,
    ),
    Claim(
        "matryoshka-2d",
        (
            "The backbone was trained at full size with the contrastive loss alone.",
            "Every layer then got a linear head in closed form.",
            "The head of the last layer turns its vectors: the components on which the two texts of a pair agree come first.",
            "The head of a shallow layer is a ridge regression to the turned vectors.",
        ),
        with_facts(heads="after training"),
        with_facts(heads="before training"),
    ),
    Claim(
        "matryoshka-2d",
        ("Each step trains the whole model and its cuts with the same sentence loss, and",),
        TWO_D_MSE,
        {},
    ),
    Claim(
        "matryoshka-2d",
        (", and draws the shallow vectors towards those of the full depth, after Li et al. (see Citation).",),
        TWO_D_MSE,
        {"facts": {"objective": "2dmse"}, "spec": {"objective": "2dmse", "align": 0}},
    ),
]

PROOFS: list[tuple[tuple[str, ...], str]] = [
    (
        (
            "This sentence embedding model can be cut in two directions when it is loaded.",
            "Fewer Transformer layers make it faster, and fewer dimensions make its vectors smaller.",
        ),
        "families/matryoshka_2d/test_matryoshka_2d.py::test_a_saved_view_equals_the_view_and_holds_no_deeper_layers",
    ),
    (
        ("A cut shares its tensors with the whole model and gives vectors of unit length:",),
        "families/matryoshka_2d/test_matryoshka_2d.py::test_a_view_shares_the_tensors_and_leaves_the_encoder_unchanged",
    ),
    (
        ("It was trained with a prompt before", ", which training on scored pairs did not use."),
        "families/matryoshka_2d/test_matryoshka_2d.py::"
        "test_training_texts_get_the_prompts_of_the_backbone_or_of_the_recipe",
    ),
    (
        (
            "Every layer has a linear head.",
            "Before training, the heads are fitted in closed form (ridge regression)",
        ),
        "text/test_heads.py::test_a_shallow_head_is_the_ridge_regression_to_the_rotated_embeddings",
    ),
    (
        ("The backbone was trained at full size with the contrastive loss alone.",),
        "families/matryoshka_2d/test_heads_after_training.py::test_the_full_size_is_that_of_plain_contrastive_training",
    ),
    (
        (
            "Every layer then got a linear head in closed form.",
            "The head of a shallow layer is a ridge regression to the turned vectors.",
        ),
        "families/matryoshka_2d/test_heads_after_training.py::"
        "test_a_shallow_head_is_the_ridge_regression_to_the_turned_vectors",
    ),
    (
        (
            "The head of the last layer turns its vectors:",
            "the components on which the two texts of a pair agree come first.",
        ),
        "families/matryoshka_2d/test_heads_after_training.py::"
        "test_a_pair_rotation_is_orthonormal_and_puts_first_what_pairs_share",
    ),
    (
        ("It also draws the shallow vectors towards those of the full depth",),
        "families/matryoshka_2d/test_objectives.py::"
        "test_in_the_elastic_objective_a_shallow_layer_follows_the_last_one_without_pulling_it_along",
    ),
    (
        ("Each step trains the whole model and its cuts with the same sentence loss",),
        "families/matryoshka_2d/test_objectives.py::test_the_objective_is_the_papers_sum_with_one_width_for_both_layers",
    ),
    (
        (
            "- A model trained for one size alone can be better at that size than a cut of this one;",
            "compare before you ship a cut.",
        ),
        ADVICE,
    ),
]
