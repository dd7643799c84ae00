"""The conditional statements of the cards: parts of a record with which each is true, and parts with which it is false."""
# ruff: noqa: E501

from __future__ import annotations

from typing import Any, NamedTuple

from card_folders import RESULT


class Claim(NamedTuple):
    """Statements that the card of a family has with the parts `true`, and does not have with the parts `false`."""

    family: str
    sentences: tuple[str, ...]
    true: dict[str, Any]
    false: dict[str, Any]


OPAQUE = {"facts": {"space": "opaque"}}
SOFTMAX = {"facts": {"head": "softmax", "capacity": None}, "spec": {"head": "softmax"}}
VIT = {"spec": {"backbone": {"model": "me/vit"}}}
HOST = {"cpu": "C", "cores": 4, "device": "gpu", "python": "3"}
CUTS = [RESULT, RESULT | {"view": {"dim": 2}, "value": 0.375, "sentences_per_second": 20.0, "bytes_per_vector": 2}]
VALIDATION = {"metrics": [{"step": step, "validation_loss": 2.0 / step} for step in (1, 2)]}
LOSSES = [{"step": step, "loss": 2.0 / step} for step in (1, 2)]
SHARED = {"lock": {"overlaps": [{"name": "t", "among": "train", "shared": 3, "rows": 9}]}}
DISJOINT = {"lock": {"overlaps": [{"name": "t", "among": "train", "shared": 0, "rows": 9}]}}
NOTHING_MEASURED = ("Nothing was measured, so nothing is claimed about its quality.", "- Nothing was measured.")
BEFORE = 'before training" stands in brackets'


def with_results(**entries: Any) -> dict[str, Any]:
    return {"results": [RESULT | entries]}


def with_picture(name: str) -> dict[str, Any]:
    return {"plots": [name]}


def with_facts(**facts: Any) -> dict[str, Any]:
    return {"facts": facts}


NO_BASELINE = with_results(baseline=None)

BASE = [
    Claim(
        "static",
        ("It is `whole` at the view 2 dims, saved as a model of its own.",),
        {"zoo": {"parent": {"name": "whole", "view": {"dim": 2}}}},
        {},
    ),
    Claim("equiangular", ("It starts from `me/vit` and was trained on", "| Backbone | `me/vit` |"), VIT, {}),
    Claim("equiangular", ("It was trained on 15,000 rows of rows.",), {}, {"lock": {"data": {}}}),
    Claim(
        "static",
        ("trained on 6,400 of the 15,000 rows of",),
        {"lock": {"rows_seen": 6400}},
        {"lock": {"rows_seen": 15_000}},
    ),
    Claim("static", ("trained on 15,000 rows of",), {}, {"lock": {"rows_seen": 6400}}),
    Claim("static", ("Its training was ended by hand, before the end",), {"lock": {"finished_early": True}}, {}),
    Claim("static", ("On t it scores **0.5000** `ndcg`", "- These figures are from t alone;"), {}, {"results": []}),
    Claim("static", ("(0.2500 before training)",), {}, NO_BASELINE),
    Claim(
        "static",
        ("Its smallest measured cut, 2 dims, scores 0.3750", "at 2.00× the speed."),
        {"results": CUTS} | with_facts(dim=8),
        {},
    ),
    Claim("static", NOTHING_MEASURED, {"results": []}, {}),
    Claim(
        "static",
        ("| Longest input, tokens | 9 |", "- Of a text longer than 9 tokens only the beginning is read."),
        with_facts(max_length=9),
        {},
    ),
    Claim(
        "static",
        ("| Sentences per second | 10.0 (whole) |", "| Bytes per vector | 8 (whole) |", "Measured while scoring t."),
        {},
        with_results(sentences_per_second=None),
    ),
    Claim("static", ("scoring t on C, cores: 4, device: gpu.",), {"report": {"host": HOST}}, {}),
    Claim(
        "static", ("scoring t on an unnamed processor",), {"report": {"host": {"cores": 4}}}, {"report": {"host": HOST}}
    ),
    Claim("static", ("![Score against sentences per second, one point a cut](",), with_picture("quality-speed"), {}),
    Claim("static", ("![Heat map of the score of every cut](plots/grid.png",), with_picture("grid") | NO_BASELINE, {}),
    Claim(
        "static", ("every cut, and of what training added](",), with_picture("grid"), with_picture("grid") | NO_BASELINE
    ),
    Claim("static", ("| Training time | 12 min 14 s |",), {"lock": {"training_seconds": 734.2}}, {}),
    Claim(
        "static",
        ("| Language | de |", "- Language: de; nothing is known about others."),
        {"card": {"language": "de"}},
        {},
    ),
    Claim("static", ("| Licence | mit |",), {"card": {"license": "mit"}}, {}),
    Claim("static", ("| Licence | not stated |",), {}, {"card": {"license": "mit"}}),
    Claim("equiangular", ("`embedding-zoo` with the extra image)",), {}, {"spec": {"backbone": "me/bert"}}),
    Claim(
        "static",
        ("The folder is also a plain sentence-transformers model, without zoo and without custom code:",),
        {},
        {"standalone": False},
    ),
    Claim("static", ("Official mteb task; `ndcg`, higher is better.",), with_results(official=True), {}),
    Claim("static", ("; data revision `aaaaaaaaaaaa`.",), with_results(data_revision="a" * 40), {}),
    Claim("static", ("The author's own data, scored with mteb;",), {}, with_results(figures={"a": 1.0})),
    Claim("static", ("The author's own data, measured by zoo;",), with_results(figures={"a": 1.0}), {}),
    Claim(
        "static",
        ("Without a finite score, and therefore left out of the metadata: t (whole).",),
        with_results(value=None),
        {},
    ),
    Claim(
        "static",
        (
            "Fingerprints are the first 12 digits of the sha256 of the rows that were read;",
            "[`lock.json`](lock.json) has all of them.",
        ),
        {},
        {"lock": {"data": {}}},
    ),
    Claim(
        "static",
        (
            "3 of 9 rows of t are also rows of train.",
            "9 rows of t are rows of train, so its score says little about new rows.",
        ),
        SHARED,
        DISJOINT,
    ),
    Claim("static", ("No row of t is a row of train.",), DISJOINT, SHARED),
    Claim(
        "static",
        ("Texts were compared after normalisation (case, white space, Unicode), images by their pixels",),
        SHARED,
        {},
    ),
    Claim(
        "static",
        ("![Training and validation loss, by optimiser step](",),
        with_picture("loss") | {"metrics": LOSSES + VALIDATION["metrics"]},
        with_picture("loss") | {"metrics": LOSSES},
    ),
    Claim(
        "static",
        ("![Training loss, by optimiser step](",),
        with_picture("loss") | {"metrics": LOSSES},
        with_picture("loss") | VALIDATION,
    ),
    Claim(
        "static",
        ("![Training loss of each phase, by block of documents](",),
        with_picture("loss") | {"metrics": [line | {"phase": "codes"} for line in LOSSES]},
        with_picture("loss") | {"metrics": LOSSES},
    ),
    Claim("static", ("The lowest validation loss, 1.0000, was reached at step 2",), VALIDATION, {}),
    Claim("static", ("step 2, whose weights these are.",), VALIDATION, VALIDATION | {"training": {"keep_best": False}}),
    Claim(
        "static",
        ("This is `recipe.yaml`", "It needs `embedding-zoo` with the extras quickstart."),
        {},
        {"recipe": False},
    ),
    Claim(
        "static",
        ("Its relative paths start at the folder that `--data` names: put that folder's path in place of `DATA`.",),
        {"data": {"source": "file", "path": "rows.csv"}},
        {},
    ),
    Claim(
        "static",
        ("On C, device: gpu, in bfloat16, Python 3.",),
        {"lock": {"host": HOST, "precision": "bfloat16"}},
        {},
    ),
    Claim("static", ("On C, Python 3.",), {"lock": {"host": HOST | {"device": None}}}, {}),
    Claim(
        "static",
        ("t: local data, not an official task, so these figures must not be compared with a leaderboard.",),
        {},
        with_results(official=True),
    ),
    Claim("static", ("- It scores lower than before training on: t (whole).",), with_results(baseline=0.75), {}),
    Claim("static", ("biases of its backbone and of its training data.",), {}, {"lock": {"data": {}}}),
    Claim("static", ("biases of its backbone.",), {"lock": {"data": {}}}, {}),
    Claim("equiangular", ("biases of its training data.",), {}, VIT),
]

BINARY_PV = [
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
            "Documents and words learn vectors together: the mean of a document and of the words around a place predicts the word there, against noise words.",
        ),
        with_facts(variant="dm"),
        {},
    ),
    Claim(
        "binary-pv", (", drawn towards 40 vectors that stand for the training texts, and",), {}, with_facts(anchors=0)
    ),
]

EQUIANGULAR = [
    Claim("equiangular", ("Embeds images as",), {}, with_facts(modality="text")),
    Claim("equiangular", ("Embeds texts as",), with_facts(modality="text"), {}),
    Claim(
        "equiangular",
        ("their class by a learned linear head.", "was trained on the backbone's features by cross-"),
        SOFTMAX,
        {},
    ),
    Claim("equiangular", ("their class: the nearest of vectors that were fixed before training.",), {}, SOFTMAX),
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
            "In the tables of figures, `vector angle` is the mean angle in degrees between the mean of a class and its vector.",
            "`within spread` is the share of variance inside classes. `ece` is the expected calibration error.",
            "`knn` is the accuracy of nearest neighbours among training rows.",
            "`ood auroc` is how often a known input scores higher than one of another data set.",
            "`answered` is the share of inputs that get a class.",
            "`answered` and, with inputs of no class, `refused unknown` show how often.",
        ),
        with_results(type="recognition"),
        {},
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
    Claim("equiangular", ("![Absolute cosines between class vectors](",), with_picture("gram"), {}),
    Claim("equiangular", ("![Confusion matrix, as shares of each class](",), with_picture("confusion"), {}),
    Claim("equiangular", ("![Calibration: accuracy against probability](",), with_picture("calibration"), {}),
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

LATENT_QUANTIZED = [
    Claim(
        "latent-quantized",
        (
            "Encodes images as codes, learned without labels: each number takes one of its own fixed set of values.",
            "A decoder turns codes back into images.",
            "Each latent has learnable values of its own. The encoder's output is rounded to the nearest of them, and the "
            "gradient goes straight through (see Citation).",
        ),
        {},
        with_facts(latent="gaussian"),
    ),
    Claim("latent-quantized", ("Encodes vectors as", "codes back into vectors."), with_facts(modality="vector"), {}),
    Claim(
        "latent-quantized",
        ("An autoencoder of images with latents of the kind `gaussian`, a baseline of latent quantization.",),
        with_facts(latent="gaussian"),
        {},
    ),
    Claim(
        "latent-quantized",
        (
            "| Values of each latent | 4 |",
            "`vectors` are indices; the values that they stand for, and what the decoder makes of codes:",
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
            "`infom` (modularity) is how far a latent tells of one source alone, `infoc` (compactness) how far a source is told by "
            "one latent alone, `infoe` (explicitness) how well a linear model predicts the sources from all latents;",
            "each is one at best.",
            "MIG, SAP and DCI are older measures of the same.",
        ),
        with_results(type="infomec"),
        {},
    ),
    Claim("latent-quantized", ("The codebook follows the encoder.",), {}, {"spec": {"codebook_weight": 0}}),
    Claim("latent-quantized", ("The weights decay.",), {}, {"training": {"weight_decay": 0.0}}),
    Claim("latent-quantized", ("![NMI of every source with every latent](",), with_picture("nmi"), {}),
    Claim(
        "latent-quantized",
        ("![One input, each row with one latent at each of its values](",),
        with_picture("traversal"),
        {},
    ),
    Claim("latent-quantized", ("![Inputs and their reconstructions](",), with_picture("reconstructions"), {}),
    Claim(
        "latent-quantized",
        ("![The values of every latent, and how often each is taken](",),
        with_picture("codebook"),
        {},
    ),
    Claim(
        "latent-quantized",
        (
            "The same networks, rows, settings and seed with other latents, all measured on the validation rows;",
            "`error` is that of reconstruction:",
        ),
        with_facts(own={"error": 0.5}, baselines={"gaussian": {"error": 0.25}}),
        {},
    ),
]
