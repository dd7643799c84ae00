"""The statements of the card of vlm2vec: see `tests/support/card_claims.py`."""
# ruff: noqa: E501

from __future__ import annotations

from typing import Any

from card_claims import ADVICE, Claim, encode_image, with_details, with_facts, with_picture

SPEC: dict[str, Any] = {"backbone": {"build": "idefics3"}}
FACTS: dict[str, Any] = {}

ITEMS = [{"text": "arrow-left", "image": encode_image(32, 32, 3), "right": number == 1} for number in range(5)]
SAMPLE: dict[str, Any] = {
        "facts": {"dim": 64, "parameters_total": 99, "instructions": {"query": "Find:"}, "architecture": "idefics3"},
        **with_details(retrieved=[{"query": {"text": "an arrow that points to the left"}, "found": ITEMS}] * 6),
    }  # fmt: skip
FINDINGS: list[tuple[str, dict[str, Any], str]] = [
    (
        "retrieved",
        with_details(
            retrieved=[{"query": {}, "found": [{"right": right}, {"right": True}]} for right in (True, False)]
        ),
        "The first candidate is right for 1 of 2 queries.",
    ),
]

CLAIMS = [
    Claim(
        "vlm2vec",
        ("| Backbone | a small idefics3, trained from scratch |",),
        with_facts(architecture="idefics3"),
        {"spec": {"backbone": {"model": "me/vlm"}}, "facts": {"architecture": "idefics3"}},
    ),
    Claim("vlm2vec", ("| Dimensions | 8 |", "| Parameters | 99 |"), with_facts(dim=8, parameters_total=99), {}),
    Claim(
        "vlm2vec",
        ("| Instruction of a query | `Find:` |", ', prompt_name="query")'),
        with_facts(instructions={"query": "Find:"}),
        {},
    ),
    Claim(
        "vlm2vec",
        ("The folder is also a plain sentence-transformers model, without zoo and without custom code:",),
        {},
        {"standalone": False},
    ),
    Claim("vlm2vec", ("; its processor needs torchvision",), with_facts(stock_needs="torchvision"), {}),
    Claim(
        "vlm2vec",
        (
            "It needs peft, and downloads its backbone. To open a copy on your disk, give the path of its folder `adapter`",
            "Training changed a LoRA adapter and no other weights; this folder holds the adapter without its backbone.",
        ),
        with_facts(adapter="adapter"),
        with_facts(adapter="merged"),
    ),
    Claim("vlm2vec", ("Training changed a LoRA adapter and no other weights.",), with_facts(adapter="merged"), {}),
    Claim(
        "vlm2vec",
        (
            "The queries are evenly spread over the test set and not selected by hand.",
            "Beside each are its best candidates.",
            "A frame marks the right ones.",
        ),
        with_picture("retrieved"),
        {},
    ),
    Claim(
        "vlm2vec",
        (
            "A query counts if its right candidate scores above all its other candidates;",
            "a tie is a miss.",
            "These are shares of queries, as means over data sets:",
        ),
        {"report": {"averages": {"all": 0.5}}},
        {},
    ),
]

PROOFS: list[tuple[tuple[str, ...], str]] = [
    (
        (
            "This model embeds texts, images and any mix of both as unit vectors in one space.",
            "An instruction says what to look for.",
        ),
        "families/vlm2vec/test_vlm2vec.py::test_the_order_of_images_and_the_instruction_change_the_vector",
    ),
    (
        (
            "An input is a text, an image (PIL image, array, `Path`, bytes), both, or a list of texts and images in reading order.",
        ),
        "families/vlm2vec/test_vlm2vec.py::test_the_same_image_has_the_same_vector_in_every_form",
    ),
    (
        ("The instruction is part of the view.",),
        "families/vlm2vec/test_vlm2vec.py::test_a_view_may_replace_the_instructions_of_queries_and_documents",
    ),
    (
        (
            "Use the instruction that such inputs had in training, even if they are now on the other side of the search:",
        ),
        ADVICE,
    ),
    (
        ("The folder is also a plain sentence-transformers model, without zoo and without custom code",),
        "families/vlm2vec/test_vlm2vec_backbones.py::"
        "test_sentence_transformers_gives_the_same_vectors_with_and_without_instruction",
    ),
    (
        (
            "The model was trained with InfoNCE on pairs of a query and a matching document, with the other rows of the batch "
            "as negatives (see Citation).",
        ),
        "families/vlm2vec/test_vlm2vec_training.py::"
        "test_infonce_is_the_log_sum_over_unmasked_candidates_minus_the_positive",
    ),
    (
        ("The vector is the normalised state of the last token.",),
        "families/vlm2vec/test_vlm2vec.py::test_padding_on_either_side_does_not_change_a_vector",
    ),
    (
        ("Training changed a LoRA adapter and no other weights",),
        "families/vlm2vec/test_vlm2vec_backbones.py::"
        "test_only_the_adapter_is_trained_and_a_folder_holds_it_merged_or_alone",
    ),
    (
        (
            "- The model learned the effect of instructions from those in its training data.",
            "A very different instruction may have no effect.",
        ),
        ADVICE,
    ),
]
