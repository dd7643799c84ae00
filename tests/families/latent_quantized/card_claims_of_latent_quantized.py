"""The statements of the card of latent-quantized: see `tests/support/card_claims.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
from card_claims import ADVICE, Claim, encode_image, with_details, with_facts, with_results

SPEC: dict[str, Any] = {}
FACTS: dict[str, Any] = {"modality": "image", "latent": "quantized", "sizes": [4], "dim": 3}

SAMPLE: dict[str, Any] = {
        "facts": {
            "values": [[0.0, 0.5, 1.0]] * 10, "usage": [[0.5, 0.5, 0.0]] * 10, "sizes": [3] * 10, "error": 0.125, "bits": 15.8,
            "traversal": encode_image(180, 108), "pairs": encode_image(108, 180), "shape": [1, 16, 16],
            "own": {"error": 0.5}, "baselines": {"gaussian": {"error": 0.25}},
        },
        **with_details(
            nmi=(np.eye(6, 10) * 0.75).tolist(), sources=["floor hue", "wall hue", "object hue", "scale", "shape", "angle"],
            active=[True] * 8 + [False] * 2,
        ),
    }  # fmt: skip
FINDINGS: list[tuple[str, dict[str, Any], str]] = [
    (
        "nmi",
        with_details(nmi=[[0.5, 0.25], [0.0, 1.0]], sources=["hue", "size"], active=[True, True]),
        "The best latent of a source has 0.75 in the mean; the highest value is 1.00, of size with latent 1.",
    ),
    ("codebook", {"facts": {"usage": [[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]}}, "Inputs take 3 of the 6 values."),
    ("traversal", {"facts": {"sizes": [3, 4]}}, "Each of its 2 latents takes 3 to 4 values."),
    ("reconstructions", {"facts": {"error": 0.125}}, "The mean error on training inputs is 0.1250."),
]

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
