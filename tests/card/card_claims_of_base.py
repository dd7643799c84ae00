"""The statements that the cards of all families share: see `tests/support/card_claims.py`."""

from __future__ import annotations

from card_claims import ADVICE, MINING, NO_BASELINE, RESULT, Claim, with_facts, with_results

VIT = {"spec": {"backbone": {"model": "me/vit"}}}
HOST = {"cpu": "C", "cores": 4, "device": "gpu", "python": "3"}
DATA = {"fingerprint": "d" * 64, "rows": 15_000, "skipped": 0, "origin": {"name": "rows"}}
MANY = [RESULT | {"task": f"t{number}"} for number in range(6)]
CUTS = [RESULT, RESULT | {"view": {"dim": 2}, "value": 0.375, "sentences_per_second": 20.0, "bytes_per_vector": 2}]
VALIDATION = {"metrics": [{"step": step, "validation_loss": 2.0 / step} for step in (1, 2)]}
BOTH = {"metrics": [{"step": step, "validation_loss": 2.0 / step, "validation_score": 0.5 / step} for step in (1, 2)]}
CALIBRATION = {"validation": {"task": "recognition", "metric": "ece", "data": {"source": "builtin", "name": "digits"}}}
LOSSES = [{"step": step, "loss": 2.0 / step} for step in (1, 2)]
SHARED = {"lock": {"overlaps": [{"name": "t", "among": "train", "shared": 3, "rows": 9}]}}
DISJOINT = {"lock": {"overlaps": [{"name": "t", "among": "train", "shared": 0, "rows": 9}]}}
LONG = {"name": "train", "counted": 10, "texts": 20, "long": 3, "longest": 300, "limit": 256}
NOTHING_MEASURED = ("Nothing was measured, so nothing is claimed about its quality.", "- Nothing was measured.")


def with_mining(**entries):
    return {"lock": {"mining": MINING | entries}}


WORSE = {"low": -0.3, "sentence": "WORSE than BM25."}
FAULT = {"level": "warning", "message": "the loss did not fall", "advice": "try another rate"}
SOURCES = {"a": {"rows": 40, "weight": 2.0, "share": 0.8}, "b": {"rows": 3000, "weight": None, "share": 0.2}}
SOURCE_LOSSES = [
    {"step": 1, "loss": 2.0, "loss_by_source": {"a": 2.0}},
    {"step": 2, "loss": 1.0, "loss_by_source": {"a": 1.5, "b": 0.5}},
]
MIXED = {"lock": {"sources": SOURCES}, "metrics": SOURCE_LOSSES}
STEP = {
    "step": "binary",
    "kind": "codes",
    "bytes_per_vector": 432,
    "first_bytes": 48,
    "facts": {"recall_at_10": 0.75, "note": "x"},
}
CODES = {
    "task": "t",
    "step": "binary",
    "value": 0.375,
    "float_value": 0.5,
    "bytes_per_vector": 432,
    "first_bytes": 48,
    "float_bytes": 1536,
}
FITTED = {"zoo": {"after": [{"step": "binary"}]}, "lock": {"after": [STEP]}, "report": {"codes": [CODES]}}
WHOLE = STEP | {"first_bytes": 432}
TABLE = {
    "codec": "pq",
    "bytes": 3134440,
    "float_bytes": 46881792,
    "mean_error": 0.0975,
    "worst_error": 0.1939,
    "worst_token": "##ing",
    "worst_cosine": 0.9875,
    "texts": 262,
    "distilled_steps": 300,
    "undistilled_worst_cosine": 0.9375,
}
SPACE = RESULT | {
    "type": "diagnose",
    "task": "space",
    "metric": "vendi",
    "value": 51.25,
    "baseline": 40.5,
    "figures": {"vendi": 51.25, "rankme": 101.5, "mean_cosine": 0.125, "dead_components": 3.0},
    "details": {"rows": 1234, "variances": [[1, 0.5], [2, 0.25]], "remarks": ["8 units are dead"]},
}
CUT_SPACE = SPACE | {"view": {"dim": 2}, "figures": {"vendi": 2.0}, "baseline": None}
GEOMETRY = RESULT | {"type": "geometry", "task": "classes", "figures": {"cdnv": 0.625, "nearest_mean": 0.5}}
CLAIMS = [
    Claim(
        "static",
        (
            "<summary>Health</summary> Figures of the vectors of 1,234 inputs, without labels.",
            "They show faults, and the order of the widths of this model. They do not say whether another model is better.",
            "| Figure | 8 dims | 2 dims | |:---|---:|---:| | vendi | 51.2 | 2.000 | | vendi before training | 40.5 | – |",
            "| rankme | 101.5 | – | | mean cosine | 0.125 | – | | dead components | 3 | – | | cdnv | 0.625 | – |",
            "- 8 units are dead",
        ),
        {"results": [RESULT, SPACE, CUT_SPACE, GEOMETRY]} | with_facts(dim=8),
        {"results": [RESULT, GEOMETRY]} | with_facts(dim=8),
    ),
    Claim(
        "static",
        ("Nothing was measured, so nothing is claimed about its quality.",),
        {"results": [SPACE]},
        {"results": [SPACE, RESULT]},
    ),
    Claim(
        "dense",
        (
            "| Token table | pq, 3,134,440 bytes instead of 46,881,792 |",
            "- Its token table is stored in fewer bits. The squared error of a row is 0.0975 of its squared length on average, "
            "and 0.1939 in the worst row, `##ing`. "
            "The lowest cosine to the vector of the float model is 0.9875, among 262 texts.",
            "- Only zoo opens this folder. `zoo export MODEL OUT --table float` writes a plain model with the same vectors.",
        ),
        {"zoo": {"table": TABLE}},
        {},
    ),
    Claim(
        "dense",
        ("It was 0.9375 before a distillation of 300 steps.",),
        {"zoo": {"table": TABLE}},
        {"zoo": {"table": TABLE | {"distilled_steps": 0, "undistilled_worst_cosine": None}}},
    ),
    Claim(
        "static",
        (
            "### Quality against bytes Documents are codes of the step `binary`, fitted after the training.",
            "| Task | Documents | Bytes per vector | Score | Share of float |",
            "| t | float vectors | 1,536 | 0.5000 | – | | t | codes of binary | 432 (48 read first) | 0.3750 | 75.0 % |",
            "| Bytes per code | 432 |",
            "Codes take the place of the vectors of documents. They were fitted on vectors of the whole encoder:",
            "| Step | Figure of its fit | Value |",
            "| binary | recall at 10 | 0.75 |",
        ),
        FITTED,
        FITTED | {"zoo": {}, "report": {}},
    ),
    Claim(
        "static",
        ("A search reads 48 bytes of every code. The others are read for the best candidates only.",),
        FITTED,
        FITTED | {"lock": {"after": [WHOLE]}},
    ),
    Claim(
        "static",
        (
            "A batch has rows of one source. | Source | Rows | Weight | Share of an epoch | First loss | Last loss |",
            "| a | 40 | 2 | 80.0 % | 2.0000 | 1.5000 | | b | 3,000 | – | 20.0 % | 0.5000 | 0.5000 |",
        ),
        MIXED,
        {"metrics": LOSSES},
    ),
    Claim("static", ("A batch has rows of all sources.",), MIXED | {"mixture": {"batches": "mixed"}}, MIXED),
    Claim(
        "static",
        ("was trained on 30,000 rows of rows and codes.",),
        {"lock": {"data": {"train/a": DATA, "train/b": DATA | {"origin": {"name": "codes"}}}}},
        {"lock": {"data": {"train/a": DATA}}},
    ),
    Claim(
        "static",
        ("- 3 of 10 texts of train are longer than 256 tokens, the longest by 44.",),
        {"lock": {"long_texts": [LONG]}},
        {"lock": {"long_texts": [LONG | {"long": 0, "longest": 0}]}},
    ),
    Claim(
        "static",
        ("They were counted among texts that were drawn from 20.",),
        {"lock": {"long_texts": [LONG]}},
        {"lock": {"long_texts": [LONG | {"texts": 10}]}},
    ),
    Claim(
        "static",
        ("The training shows signs of a fault: - the loss did not fall; try another rate.",),
        {"report": {"health": [FAULT]}},
        {"report": {"health": []}},
    ),
    Claim(
        "static",
        ("(0.2500 before training). WORSE than BM25.", "- whole: WORSE than BM25."),
        with_results(verdict=WORSE),
        with_results(verdict=None),
    ),
    Claim(
        "static",
        ("| Free baseline | Score | |:---|---:| | BM25 | 0.7500 | | LSA | 0.5000 |",),
        {
            "report": {
                "free_baselines": {
                    "t": [
                        {"name": "LSA", "value": 0.5},
                        {"name": "none", "value": None},
                        {"name": "BM25", "value": 0.75},
                    ]
                }
            }
        },
        {"report": {"free_baselines": {"other": [{"name": "BM25", "value": 0.75}]}}},
    ),
    Claim(
        "static",
        (
            "- Each figure is one training.",
            "Its interval is that of other rows or queries, not that of other trainings.",
        ),
        with_results(verdict=WORSE),
        with_results(verdict=WORSE | {"low": None}),
    ),
    Claim(
        "static",
        ("- Each figure is one measurement, without an interval:", "small differences may be noise."),
        with_results(verdict=WORSE | {"low": None}),
        with_results(verdict=WORSE),
    ),
    Claim("static", ("| Training time |",), {"lock": {"training_seconds": 8}}, {}),
    Claim(
        "static",
        ("scores 0.3750 (0.2500 before training).",),
        {"results": [result | {"sentences_per_second": None} for result in CUTS]} | with_facts(dim=8),
        {"results": CUTS} | with_facts(dim=8),
    ),
    Claim("static", ("scoring t on C.",), {"report": {"host": {"cpu": "C"}}}, {"report": {"host": HOST}}),
    Claim("static", ("It was trained with these versions:",), {}, {"lock": {"packages": {}}}),
    Claim("static", ("It was trained on C, with these",), {"lock": {"host": {"cpu": "C"}}}, {"lock": {"host": HOST}}),
    Claim("static", ("It was trained on C",), {"lock": {"host": {"cpu": "C"}}}, {}),
    Claim("static", ("| Further tasks, under Details | 2 |",), {"results": MANY}, {"results": MANY[:4]}),
    Claim(
        "static",
        ("- These figures are from t0, t1, t2 and 3 further tasks alone;",),
        {"results": MANY},
        {"results": MANY[:4]},
    ),
    Claim("latent-quantized", ("It starts from", "| Backbone |"), {"lock": {"backbone": {"name": "x"}}}, {}),
    Claim("static", ("# n Made of tea leaves.",), {"card": {"summary": "Made of tea leaves."}}, {}),
    Claim("static", ("The bar that the recipe sets, 0.7500, is missed by whole.",), with_results(at_least=0.75), {}),
    Claim("static", ("| accuracy | 0.5000 |",), with_results(figures={"accuracy": 0.5}), {}),
    Claim("static", ("Settings</summary> | Setting | Value |",), {}, {"recipe": False}),
    Claim("static", ("zoo reproduce path/to/model --out again # trains it and compares",), {}, {"results": []}),
    Claim("static", ("@misc{tea}",), {"lock": {"data": {"train": {"origin": {"citation": "@misc{tea}"}}}}}, {}),
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
    Claim(
        "static", ("On t this model scores **0.5000** `ndcg`", "- These figures are from t alone;"), {}, {"results": []}
    ),
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
        ("| Longest input, tokens | 9 |", "- It reads only the beginning of a text that is longer than 9 tokens."),
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
    Claim(
        "static",
        ("| Training time | 12 min 14 s |",),
        {"lock": {"training_seconds": 734.2}},
        {"lock": {"training_seconds": 8}},
    ),
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
    Claim("static", ("The revision of the data is `aaaaaaaaaaaa`.",), with_results(data_revision="a" * 40), {}),
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
    Claim("static", ("The lowest validation loss, 1.0000, was reached at step 2",), VALIDATION, {}),
    Claim("static", ("step 2, whose weights these are.",), VALIDATION, VALIDATION | {"training": {"keep_best": False}}),
    Claim("static", ("step 2, whose weights these are.",), VALIDATION, BOTH),
    Claim("static", ("The highest validation score, 0.5000, was reached at step 1, whose",), BOTH, VALIDATION),
    Claim("static", ("step 1, whose weights these are.",), BOTH, BOTH | {"training": {"keep_best": False}}),
    Claim("static", ("The lowest validation score, 0.2500, was reached at step 2,",), BOTH | CALIBRATION, BOTH),
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
        ("It was trained on C, device: gpu, in bfloat16, Python 3, with these versions:",),
        {"lock": {"host": HOST, "precision": "bfloat16"}},
        {},
    ),
    Claim("static", ("trained on C, Python 3, with",), {"lock": {"host": HOST | {"device": None}}}, {}),
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
    Claim(
        "static",
        (
            "`me/search` searched 900 texts (leaflets) for hard negatives and found 77 for 40 training rows.",
            "These candidates were left out:",
            "- Known positives: 5.",
            "- Near-duplicates of a positive: 4.",
        ),
        with_mining(),
        {},
    ),
    Claim("static", ("searched 900 texts for hard negatives",), with_mining(corpus=""), with_mining()),
    Claim(
        "static",
        ("- Probable positives, with a score above 0.95 × that of the row's positive: 31.",),
        with_mining(),
        with_mining(margin=None),
    ),
    Claim(
        "static",
        ("3 rows have fewer than 2;", "6 random texts or repeats fill them up."),
        with_mining(),
        with_mining(short_rows=0),
    ),
    Claim(
        "static",
        ("They were mined anew with the model in training before 2 later epochs.",),
        with_mining(epochs=[{"epoch": 2}, {"epoch": 3}]),
        with_mining(epochs=[{"epoch": 2}]),
    ),
    Claim("static", ("training before 1 later epoch.",), with_mining(epochs=[{"epoch": 2}]), with_mining()),
    Claim("static", ("2 rows without any were left out of the training.",), with_mining(), with_mining(empty_rows=0)),
    Claim(
        "static",
        (
            "Some random training rows with a mined negative:",
            "| Anchor | Positive | Score | Negative | Score |",
            "| cough | a cold | 0.7500 | a fever | 0.5000 |",
        ),
        with_mining(),
        with_mining(examples=[]),
    ),
]

PROOFS: list[tuple[tuple[str, ...], str]] = [
    (("`zoo card` renders it again.",), "card/test_card.py::test_rendering_again_gives_the_same_bytes"),
    (("Licence",), "card/test_statements.py::test_a_statement_is_there_only_if_it_is_true"),
    (
        ("With zoo (the Python package `embedding-zoo`",),
        "card/test_statements.py::test_the_package_has_the_name_that_cards_give",
    ),
    (("- It takes over the biases of",), ADVICE),
    (("Speed and memory belong to that machine and those inputs.",), ADVICE),
    (("Another processor, thread count or library version can change the last digits.",), ADVICE),
    (("other domains, lengths and tasks can behave differently.",), ADVICE),
    (("Evaluate it on data like yours before you rely on it.",), ADVICE),
    (
        (", higher is better",),
        "metrics/test_infomec.py::test_an_ideal_code_scores_1_also_with_renamed_values_in_another_order_and_beside_an_inactive_latent",
    ),
]
