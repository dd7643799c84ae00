"""`validation:` may hold tasks. Mistakes in them are named with their places before anything is trained."""

from __future__ import annotations

import json

import pytest

from zoo.core.errors import RecipeError
from zoo.evaluation.spec import find_rows, list_tasks
from zoo.recipe import recipe, role_sources
from zoo.schema import Training

SOURCE = {"source": "file", "path": "pairs.csv"}
PAIRS = SOURCE | {"columns": {"sentence1": "a", "sentence2": "b", "score": "gold"}}
STS = {"task": "sts", "data": PAIRS}
FIND = {"task": "retrieval", "data": SOURCE | {"columns": {"query": "a", "document": "b"}}}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pairs.csv").write_text("a,b,gold\nthe dog,a dog,1\n")
    return tmp_path


def load(folder, validation, **sections):
    whole = {
        "name": "watched",
        "encoder": {"family": "matryoshka-2d", "backbone": "me/on-the-hub", "dims": [8]},
        "data": PAIRS,
        "validation": validation,
        **sections,
    }
    return recipe.loads(json.dumps(whole), folder=folder, file="r.yaml")


def find_problems(folder, validation, **sections):
    with pytest.raises(RecipeError) as caught:
        load(folder, validation, **sections)
    return [problem.partition(": ")[2] for problem in caught.value.problems]


def test_a_task_a_list_of_tasks_and_tasks_beside_rows_are_read_and_written_back(folder):
    for validation, names, rows in (
        (STS, ["sts"], None),
        ([STS, FIND], ["sts", "retrieval"], None),
        ([FIND, 0.1], ["retrieval"], 0.1),
        ([PAIRS, STS | {"metric": "cosine_pearson"}], ["sts"], "pairs.csv"),
        (0.1, [], 0.1),
        ("auto", [], "auto"),
        (PAIRS, [], "pairs.csv"),
    ):
        loaded = load(folder, validation)
        assert [task.title for task in list_tasks(loaded.validation)] == names
        found = find_rows(loaded.validation)
        assert getattr(found, "path", found) == rows
        assert recipe.loads(loaded.dump(), folder=folder).dump() == loaded.dump()


def test_a_task_stands_for_something_to_stop_by(folder):
    assert load(folder, STS, training={"early_stop": 2}).training.early_stop == 2


def test_the_columns_of_a_validation_task_are_said(folder):
    lines = role_sources.describe_roles(load(folder, [FIND]))
    assert "validation.retrieval.data (pairs.csv): query from 'a', document from 'b'" in lines


@pytest.mark.parametrize(
    ("validation", "says"),
    [
        (
            STS | {"metric": "cosine_spearmen"},
            "validation.metric: the task sts has no metric 'cosine_spearmen'; did you mean cosine_spearman?",
        ),
        (
            [STS, FIND | {"metric": "ndcg"}],
            "validation.1.metric: the task retrieval has no metric 'ndcg'; did you mean ndcg_at_5?",
        ),
        (
            {"task": "clustering", "data": PAIRS | {"columns": {"text": "a", "label": "gold"}}, "metric": "xxx"},
            "validation.metric: the task clustering has no metric 'xxx'; there are: v_measure, ami",
        ),
        (
            STS | {"at_least": 0.5},
            "validation.at_least: has no effect during training: move it to a task of `evaluation`",
        ),
        ([STS, STS], "validation.1: two tasks are called 'sts'; give one a `name`"),
        (
            [0.1, PAIRS, STS],
            "validation.1: only one entry can be rows whose loss is computed: remove one, or make it a task",
        ),
        (STS | {"views": [{"dimm": 8}]}, "validation.views.0.dimm: unknown key"),
        ({"task": "sts", "data": PAIRS | {"path": "no.csv"}}, "validation.data.path: "),
        ({"task": "STSBenchmark"}, "validation: 'STSBenchmark' is not one of any-retrieval, classification"),
        (STS | {"metrik": "x"}, "validation.metrik: unknown key; did you mean metric?"),
        ([], "validation: "),
    ],
)
def test_a_mistake_in_a_task_is_one_line_with_its_place(validation, says, folder):
    (problem,) = find_problems(folder, validation)
    assert problem.startswith(says)


def test_metrics_of_two_directions_have_no_mean(folder):
    known = PAIRS | {"columns": {"text": "a", "label": "gold"}}
    recognition = {"task": "recognition", "data": known, "metric": "ece"}
    classes = {"family": "equiangular", "backbone": "me/on-the-hub"}
    problems = find_problems(folder, [recognition, FIND], encoder=classes, data=known)
    assert problems == [
        "validation.1.metric: ndcg_at_10 and ece have no common mean, because one is better if it is lower; watch one of them"
    ]


def test_other_names_of_the_steps_between_validations_are_known(folder):
    (problem,) = find_problems(folder, None, training={"eval_steps": 10})
    assert problem == "training.eval_steps: unknown key; did you mean validate_every?"
    assert Training(validate_every=10).validate_every == 10
