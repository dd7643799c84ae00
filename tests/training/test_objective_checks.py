"""Rows and batches from which a loss can learn nothing are found: by the recipe where it tells, else before training."""

from __future__ import annotations

import itertools

import pytest
from datasets import Dataset

from zoo import families
from zoo.core.errors import DataError, ZooError
from zoo.schema import Training
from zoo.training import objective_checks
from zoo.training.step_plan import plan_steps, split_rows

LABELS = {"a": ("x",), "b": ("y",)}
MATRYOSHKA = {"family": "matryoshka-2d", "backbone": "me/x"}
CONCEPTS = {"source": "builtin", "name": "icd10cm", "table": "tree"}
RESNET = {"build": "resnet", "channels": 1, "size": 8}
PAIRS = {"anchor": ["a", "b", "c", "d"], "positive": ["e", "f", "g", "h"]}
SCORED = {"sentence1": ["a", "b", "c", "d"], "sentence2": ["e", "f", "g", "h"], "score": [0.0, 1.0, 0.0, 0.5]}
QUERIES = {"query": PAIRS["anchor"], "positive": PAIRS["positive"]}
VECTORS = {"vector": [[0.0, 1.0], [1.0, 0.0], [0.5, 0.5], [1.0, 1.0]]}
TEXTS = {"text": ["a", "b", "c", "d"]}
CASES = {
    "contrastive": ({**MATRYOSHKA, "loss": "contrastive"}, PAIRS, ["anchor", "positive"], 2),
    "cosent": ({**MATRYOSHKA, "loss": "cosent"}, SCORED, ["score"], 2),
    "angle": ({**MATRYOSHKA, "loss": "angle"}, SCORED, ["score"], 2),
    "dense": ({"family": "dense", "backbone": "me/x"}, PAIRS, ["anchor", "positive"], 2),
    "proto-triplet": (
        {"family": "dense", "backbone": "me/x", "loss": "proto-triplet"},
        {**TEXTS, "label": [0, 1, 0, 1]},
        ["label"],
        4,
    ),
    "late-interaction": ({"family": "late-interaction", "backbone": "me/x"}, PAIRS, ["anchor", "positive"], 2),
    "static": ({"family": "static", "backbone": "me/x"}, PAIRS, ["anchor", "positive"], 2),
    "sesa": ({"family": "sesa", "concepts": CONCEPTS}, PAIRS, ["anchor", "positive"], 2),
    "vlm2vec": ({"family": "vlm2vec", "backbone": "me/x"}, QUERIES, ["query", "positive"], 2),
    "equiangular": (
        {"family": "equiangular", "backbone": "me/x"},
        {**TEXTS, "label": [0, 1, 0, 1]},
        ["text", "label"],
        1,
    ),
    "latent-quantized": ({"family": "latent-quantized", "modality": "vector"}, VECTORS, ["vector"], 1),
    "lbl2vec": ({"family": "lbl2vec", "labels": LABELS}, TEXTS, ["text"], 1),
    "binary-pv": ({"family": "binary-pv"}, TEXTS, ["text"], 1),
}
"""For each loss: the section, four good rows, the columns whose values must differ, and the fewest rows of a part."""
FOUR = Training(batch_size=4)
ONE_EACH = Training(batch_size=4, gradient_accumulation=4)


def make_spec(fields):
    return families.load_spec(fields["family"]).model_validate(fields)


def find(spec, columns, training, **counts):
    return objective_checks.find_recipe_mistakes(
        spec, training, columns, **{"rows": None, "validation_rows": None, **counts}
    )


def test_every_family_is_covered():
    assert {fields["family"] for fields, *_ in CASES.values()} == set(families.names())


@pytest.mark.parametrize("case", CASES)
def test_rows_that_are_all_alike_are_refused_before_training(case):
    fields, columns, distinct, _ = CASES[case]
    spec = make_spec(fields)
    objective_checks.check_rows(spec, FOUR, Dataset.from_dict(columns))
    for name in distinct:
        alike = Dataset.from_dict({**columns, name: columns[name][:1] * 4})
        with pytest.raises(DataError, match=f"the training data: every row has the same {name}.*give rows that differ"):
            objective_checks.check_rows(spec, FOUR, alike)


@pytest.mark.parametrize("case", CASES)
def test_parts_of_one_row_are_refused_by_the_recipe_and_by_the_rows_if_the_loss_compares_rows(case):
    fields, columns, _, least = CASES[case]
    spec, rows = make_spec(fields), Dataset.from_dict(columns)
    places = [path for path, _ in find(spec, columns, ONE_EACH)]
    assert places == ([("training", "batch_size")] if least > 1 else [])
    assert not find(spec, columns, FOUR)
    places = [path for path, _ in find(spec, columns, FOUR, rows=1, validation_rows=1)]
    assert places == ([("data", "limit"), ("validation",)] if least > 1 else [])
    if least == 1:
        objective_checks.check_rows(spec, ONE_EACH, rows)
        return
    with pytest.raises(
        ZooError, match=f"a part of a batch has 1 row, but .* so {least} rows at least: raise batch_size"
    ):
        objective_checks.check_rows(spec, ONE_EACH, rows)
    with pytest.raises(DataError, match="the training data: has 1 row, but"):
        objective_checks.check_rows(spec, FOUR, rows.select([0]))
    with pytest.raises(DataError, match="the validation data: has 1 row, but"):
        objective_checks.check_rows(spec, FOUR, rows, rows.select([0]))


@pytest.mark.parametrize("case", ["contrastive", "static", "vlm2vec"])
def test_a_hard_negative_makes_a_part_of_one_row_and_equal_anchors_possible(case):
    fields, columns, *_ = CASES[case]
    spec = make_spec(fields)
    negatives = [["n"], ["m"], ["n"], ["m"]] if case == "vlm2vec" else ["n", "m", "n", "m"]
    anchor = next(iter(columns))
    columns = {**columns, anchor: ["a"] * 4, "negative": negatives}
    assert not find(spec, columns, ONE_EACH)
    objective_checks.check_rows(spec, ONE_EACH, Dataset.from_dict(columns))


def test_a_part_of_one_row_needs_a_negative_in_every_row():
    spec = make_spec(CASES["vlm2vec"][0])
    rows = Dataset.from_dict({**QUERIES, "negative": [["n"], [], ["n"], ["m"]]})
    with pytest.raises(DataError, match="row 2: has no hard negative, and a part of one row has no other negative"):
        objective_checks.check_rows(spec, ONE_EACH, rows)
    objective_checks.check_rows(spec, FOUR, rows)


def test_a_teacher_compares_the_texts_of_each_process_for_itself():
    spec, rows = make_spec({**CASES["contrastive"][0], "teacher": {}}), Dataset.from_dict(PAIRS)
    objective_checks.check_rows(spec, FOUR, rows, processes=2)
    with pytest.raises(ZooError, match="leaves each of 4 processes less than the 2"):
        objective_checks.check_rows(spec, FOUR, rows, processes=4)


def test_batch_normalisation_needs_two_rows():
    spec = make_spec({"family": "equiangular", "backbone": RESNET})
    ((place, message),) = find(spec, ("image", "label"), ONE_EACH)
    assert place == ("training", "batch_size")
    assert "batch normalisation" in message


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"loss": "angle", "angle_weights": [0, 0, 0]}, "angle_weights"),
        ({"objective": "2dmse", "weights": [0, 0]}, "weights"),
        (
            {"teacher": {"unlabelled": {"source": "builtin", "name": "icd10cm"}, "texts_per_step": 2}},
            "teacher.texts_per_step",
        ),
    ],
)
def test_weights_and_texts_that_leave_nothing_of_a_loss_are_mistakes(fields, place, tmp_path):
    spec = make_spec({**MATRYOSHKA, **fields})
    assert [".".join(path) for path, _ in spec.find_mistakes(tmp_path)] == [place]


def test_two_labels_with_the_same_keywords_are_a_mistake(tmp_path):
    spec = make_spec({"family": "lbl2vec", "labels": {"a": ("x", "y"), "b": ("z",), "c": ("y", "x")}})
    ((place, message),) = spec.find_mistakes(tmp_path)
    assert place == ("labels", "c")
    assert "has the keywords of 'a'" in message


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "rows", "sizes"),
    [
        (16, 4, 5, [3, 2]),
        (16, 2, 3, [3]),
        (16, 4, 4, [1, 1, 1, 1]),
        (16, 2, 5, [3, 2]),
        (64, 8, 9, [3, 3, 3]),
        (8, 1, 1, [1]),
    ],
)
def test_no_last_part_of_the_only_batch_has_a_single_row(batch_size, accumulation, rows, sizes):
    plan = plan_steps(Training(batch_size=batch_size, gradient_accumulation=accumulation), rows)
    starts = range(0, rows, plan.micro_batch_size)
    assert [min(plan.micro_batch_size, rows - start) for start in starts] == sizes


@pytest.mark.parametrize(
    ("rows", "size", "parts"),
    [(8, 4, [4, 4]), (9, 4, [4, 5]), (10, 4, [4, 4, 2]), (3, 4, [3]), (3, 1, [1, 1, 1]), (0, 4, [])],
)
def test_validation_rows_are_split_without_a_single_last_row(rows, size, parts):
    ranges = list(split_rows(rows, size))
    assert [len(numbers) for numbers in ranges] == parts
    assert [number for numbers in ranges for number in numbers] == list(range(rows))


@pytest.mark.parametrize(
    ("positives", "batch_size", "expected"),
    [
        (["a"] * 8 + ["b"] * 8, 4, "has 1.9 different"),  # 2 - 2 · C(8, 4) / C(16, 4)
        ([str(i) for i in range(16)], 4, None),
        (["a"] * 16, 16, "has 1.0 different"),
        (["a"] * 16, 2, None),
    ],
)
def test_few_different_positives_in_a_batch_are_said(positives, batch_size, expected):
    rows = Dataset.from_dict({"anchor": [str(i) for i in range(16)], "positive": positives})
    line = objective_checks.describe_repeats(make_spec(CASES["static"][0]), Training(batch_size=batch_size), rows)
    assert (line is None) if expected is None else line.startswith(f"a part of {batch_size} rows {expected}")


def test_the_expected_number_of_different_values_is_that_of_drawing_without_replacement():
    counts, size = [3, 2, 1], 2
    values = [value for value, count in enumerate(counts) for _ in range(count)]
    draws = list(itertools.combinations(values, size))
    by_hand = sum(len(set(draw)) for draw in draws) / len(draws)
    assert objective_checks._expect_distinct(counts, size) == pytest.approx(by_hand)
