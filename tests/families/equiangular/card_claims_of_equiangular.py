"""The statements of the card of equiangular: see `tests/support/card_claims.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
from card_claims import ADVICE, Claim, with_details, with_facts, with_results

SOFTMAX = {"facts": {"head": "softmax", "capacity": None}, "spec": {"head": "softmax"}}
VIT = {"spec": {"backbone": {"model": "me/vit"}}}

SPEC: dict[str, Any] = {"backbone": {"build": "resnet"}}
FACTS: dict[str, Any] = {"modality": "image", "head": "equiangular", "classes": 3, "capacity": 8, "method": "simplex"}

SAMPLE: dict[str, Any] = {
        "facts": {
            "gram": np.full((40, 40), 0.125).tolist(), "coherence": 0.25, "welch": 0.125, "dim": 128,
            "names": [f"class {n}" for n in range(3)], "twin": {"equiangular": {"top 1": 0.5}, "softmax": {"top 1": 0.25}},
        },
        "zoo": {"threshold": 0.5},
        **with_details(
            confusion=(np.eye(10, dtype=int) * 30 + 1).tolist(), classes=[f"a class called {n}" for n in range(10)],
            calibration=[[0.5, 0.25, 10], [0.75, 0.75, 20], [0.9, 0.9, 30]],
        ),
    }  # fmt: skip
FINDINGS: list[tuple[str, dict[str, Any], str]] = [
    (
        "gram",
        {"facts": {"coherence": 0.25, "welch": 0.125}},
        "The largest is 0.2500; no set of so many vectors can stay below 0.1250.",
    ),
    (
        "confusion",
        with_details(confusion=[[6, 2], [1, 7]], classes=["cat", "dog"]),
        "81.2 % of 16 inputs get their own class. The commonest mistake: 25.0 % of cat are taken for dog.",
    ),
    (
        "confusion",
        with_details(confusion=[[6, 0, 2], [0, 8, 0]], classes=["cat", "dog"]),
        "25.0 % of cat are taken for no class.",
    ),
    ("calibration", with_details(calibration=[[0.5, 0.25, 1], [0.75, 0.75, 3]]), "They differ by 0.0625 in the mean."),
]

CLAIMS = [
    Claim("equiangular", ("This model embeds images as",), {}, with_facts(modality="text")),
    Claim("equiangular", ("This model embeds texts as",), with_facts(modality="text"), {}),
    Claim(
        "equiangular",
        ("A learned linear head predicts the class.", "was trained on the backbone's features by cross-"),
        SOFTMAX,
        {},
    ),
    Claim(
        "equiangular",
        ("The class is that of the nearest class vector; class vectors were fixed before training.",),
        {},
        SOFTMAX,
    ),
    Claim("equiangular", ("New classes can be added without training.",), {}, with_facts(capacity=3)),
    Claim("equiangular", ("| Dimensions | 5 |",), with_facts(dim=5), {}),
    Claim("equiangular", ("| Backbone | a small residual network, trained from scratch |",), {}, VIT),
    Claim(
        "equiangular",
        ("| Backbone | resnet18, trained from scratch |",),
        {"spec": {"backbone": {"timm": "resnet18", "pretrained": False}}},
        {"spec": {"backbone": {"timm": "resnet18"}}},
    ),
    Claim(
        "equiangular",
        ("| Names of the classes | a, b, c |",),
        with_facts(names=["a", "b", "c"]),
        with_facts(names=["a", "b"]),
    ),
    Claim("equiangular", ("| Names of the first classes | a, b |",), with_facts(names=["a", "b"]), {}),
    Claim(
        "equiangular",
        (
            "| Class vectors, including free ones | 8 |",
            "| Largest cosine between two class vectors | 0.1250 |",
            "| Lower bound of that cosine (Welch bound) | 0.0625 |",
        ),
        with_facts(coherence=0.125, welch=0.0625),
        SOFTMAX,
    ),
    Claim("equiangular", ("input, its score, and a probability.",), SOFTMAX, {}),
    Claim("equiangular", ("input, its cosine with its class vector, and",), {}, SOFTMAX),
    Claim(
        "equiangular",
        (
            "The class is None if the best score is below a threshold.",
            "Probabilities, and the threshold below which the class is None, were fitted to validation rows.",
        ),
        {"zoo": {"threshold": 0.5}},
        {"zoo": {"threshold": None}},
    ),
    Claim(
        "equiangular",
        (
            "`add_classes` adds a class from a few examples, without training. The vectors of old classes stay as they are.",
            "Inputs of old classes with their labels limit how much accuracy the old classes may lose:",
        ),
        {},
        with_facts(capacity=3),
    ),
    Claim(
        "equiangular",
        (
            "- `vector angle` is the mean angle in degrees between the mean of a class and its vector.",
            "- `within spread` is the share of variance inside classes.",
            "- `ece` is the expected calibration error.",
            "- `knn` is the accuracy of nearest neighbours among training rows.",
            "- `ood auroc` is how often a known input scores higher than one of another data set.",
            "- `answered` is the share of inputs that get a class.",
            "`answered` and, with inputs of no class, `refused unknown` show how often.",
        ),
        with_results(type="recognition"),
        {},
    ),
    Claim(
        "equiangular",
        (
            "- `frechet` figures are those of the label with the smallest expected squared distance to the truth.",
            "- `argmax` figures are those of the most probable class. Levels count from the top of the tree of labels.",
        ),
        with_results(type="recognition", details={"notes": ["The rule frechet helps."]}),
        with_results(type="recognition"),
    ),
    Claim(
        "equiangular",
        (
            "The class vectors (method: simplex) were not trained.",
            "The backbone was trained to point to the vector of the right class.",
            "The loss is the cross-entropy over cosines divided by a temperature",
        ),
        {},
        SOFTMAX,
    ),
    Claim("equiangular", ("temperature, with label smoothing (see Citation).",), {}, {"spec": {"smoothing": 0.0}}),
    Claim(
        "equiangular",
        (
            "The baseline has the same backbone, data, settings and seed, with a learned linear head.",
            "Both were scored on the validation rows:",
        ),
        with_facts(twin={"equiangular": {"top 1": 0.5}, "softmax": {"top 1": 0.25}}),
        {},
    ),
]

PROOFS: list[tuple[tuple[str, ...], str]] = [
    (
        (
            "This model embeds",
            "as unit vectors, and predicts their class.",
            "`predict` returns the class of each input, its",
        ),
        "families/equiangular/test_new_classes.py::test_predict_agrees_with_encode_and_the_basis",
    ),
    (("Classes",), "families/equiangular/test_new_classes.py::test_new_classes_are_recognised_and_old_ones_stay"),
    (
        (", and a probability.",),
        "families/equiangular/test_equiangular.py::test_the_softmax_head_classifies_the_features_of_the_same_backbone",
    ),
    (("- An input outside all classes may still get one.",), ADVICE),
]
