"""The statements of the card of latent-quantized: see `tests/support/card_claims.py`."""

from __future__ import annotations

from typing import Any

from card_claims import ADVICE, Claim, with_facts, with_results

SPEC: dict[str, Any] = {}
FACTS: dict[str, Any] = {"modality": "image", "latent": "quantized", "sizes": [4], "dim": 3}

CLAIMS = [
    Claim("latent-quantized", ("| Error of reconstruction",), with_facts(error=0.125), {}),
    Claim(
        "latent-quantized",
        (
            "This model encodes images as codes, learned without labels.",
            "Each number of a code takes one of a fixed set of values.",
            "A decoder turns codes back into images.",
            "Each latent has learnable values of its own. The encoder's output is rounded to the nearest of them, and the "
            "gradient goes straight through (see Citation).",
        ),
        {},
        with_facts(latent="gaussian"),
    ),
    Claim(
        "latent-quantized",
        ("This model encodes vectors as", "codes back into vectors."),
        with_facts(modality="vector"),
        {},
    ),
    Claim(
        "latent-quantized",
        (
            "This model is an autoencoder of images with latents of the kind `gaussian`, a baseline of latent quantization.",
        ),
        with_facts(latent="gaussian"),
        {},
    ),
    Claim(
        "latent-quantized",
        (
            "| Values of each latent | 4 |",
            "`vectors` holds indices. These calls give the values that they stand for, and decode them:",
        ),
        {},
        with_facts(sizes=[]),
    ),
    Claim("latent-quantized", ("| Error of reconstruction, training inputs | 0.1250 |",), with_facts(error=0.125), {}),
    Claim(
        "latent-quantized",
        ("| Latents | 3 |", "| Bits a vector can tell | 6.0 |"),
        with_facts(bits=6),
        with_facts(dim=4),
    ),
    Claim(
        "latent-quantized",
        (
            "`infom` (modularity) is how far a latent tells of one source alone.",
            "`infoc` (compactness) is how far a source is told by one latent alone.",
            "`infoe` (explicitness) is how well a linear model predicts the sources from all latents.",
            "Each is one at best.",
            "MIG, SAP and DCI are older measures of the same.",
        ),
        with_results(type="infomec"),
        {},
    ),
    Claim("latent-quantized", ("The codebook follows the encoder.",), {}, {"spec": {"codebook_weight": 0}}),
    Claim("latent-quantized", ("The weights decay.",), {}, {"training": {"weight_decay": 0.0}}),
    Claim(
        "latent-quantized",
        (
            "The same networks, rows, settings and seed were used with other latents.",
            "All were measured on the validation rows.",
            "`error` is that of reconstruction:",
        ),
        with_facts(own={"error": 0.5}, baselines={"gaussian": {"error": 0.25}}),
        {},
    ),
]

PROOFS: list[tuple[tuple[str, ...], str]] = [
    (
        ("Latents",),
        "families/latent_quantized/test_latent_quantized.py::test_other_kinds_of_latents_share_the_networks_and_the_interface",
    ),
    (
        ("One latent is changed, and the others are left as they are:",),
        "families/latent_quantized/test_latent_quantized.py::"
        "test_a_traversal_changes_one_latent_through_its_scalars_in_ascending_order",
    ),
    (
        (
            "- Without labels nothing makes sure that a latent means what a person has a word for;",
            "look at the traversal and the NMI.",
        ),
        ADVICE,
    ),
]
