"""Distances between labels and the answers that respect them: oracles on trees, graphs, scales and complete graphs."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.core.errors import ZooError
from zoo.label_geometry import (
    MatrixMetric,
    TreeMetric,
    make_graph_metric,
    make_names_metric,
    make_ordered_metric,
    predict_frechet,
)
from zoo.label_geometry.frechet import score_answers


def draw_tree(count=200, seed=0, roots=1):
    """A random tree with random lengths of its edges: parents, and lengths by label."""
    rng = np.random.default_rng(seed)
    parents = {f"n{i}": None if i < roots else f"n{rng.integers(0, i)}" for i in range(count)}
    return parents, {label: float(rng.uniform(0.2, 3)) for label in parents}


def draw_probabilities(rows, columns, seed=1):
    return np.random.default_rng(seed).dirichlet(np.full(columns, 0.3), rows)


def shortest_paths(parents, lengths, labels):
    """All distances by another algorithm: shortest paths of scipy over the edges, a common root above several roots."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import shortest_path

    place = {label: number for number, label in enumerate(labels)} | {None: len(labels)}
    edges = [(place[child], place[parent], lengths[child]) for child, parent in parents.items()]
    rows, columns, values = zip(*edges, strict=True)
    graph = coo_array((values, (rows, columns)), shape=(len(labels) + 1,) * 2).tocsr()
    return shortest_path(graph, directed=False)[:-1, :-1]


@pytest.mark.parametrize("roots", [1, 3])
def test_the_passes_over_a_tree_equal_the_matrix_of_all_distances(roots):
    parents, lengths = draw_tree(roots=roots)
    metric = TreeMetric(parents, lengths)
    distances = shortest_paths(parents, lengths, metric.labels)
    probabilities = draw_probabilities(20, 60)
    observed = np.random.default_rng(3).permutation(200)[:60]
    expected = probabilities @ distances[observed] ** 2
    np.testing.assert_allclose(metric.compute_expected_squares(probabilities, observed), expected, atol=1e-9)
    a, b = np.random.default_rng(4).integers(0, 200, (2, 500))
    np.testing.assert_allclose(metric.compute_distances(a, b), distances[a, b], atol=1e-9)


def test_a_tree_answers_as_its_matrix_does():
    parents, lengths = draw_tree()
    tree = TreeMetric(parents, lengths)
    matrix = MatrixMetric(tree.labels, shortest_paths(parents, lengths, tree.labels))
    probabilities, classes = draw_probabilities(50, 40), tree.labels[::5]
    for answers in ("classes", "all"):
        found = predict_frechet(probabilities, classes, tree, answers=answers)
        same = predict_frechet(probabilities, classes, matrix, answers=answers)
        assert [answer.label for answer in found] == [answer.label for answer in same]


def test_equal_distances_give_the_most_probable_class():
    classes = list(range(12))
    metric = MatrixMetric(classes, 1 - np.eye(12))
    probabilities = draw_probabilities(300, 12)
    answers = predict_frechet(probabilities, classes, metric)
    assert [answer.label for answer in answers] == probabilities.argmax(1).tolist()
    assert answers[0].probability == probabilities[0].max()


def test_two_near_classes_win_together():
    metric = MatrixMetric(["a", "b", "c"], [[0, 4, 4], [4, 0, 1], [4, 1, 0]])
    (answer,) = predict_frechet([[0.4, 0.3, 0.3]], ["a", "b", "c"], metric)
    assert answer.label == "b"
    assert answer.expected_squared_distance == pytest.approx(0.4 * 16 + 0.3)


@pytest.mark.parametrize(("share", "label"), [(0.25, 6), (0.5, 4), (0.75, 2), (1.0, 0)])
def test_a_label_between_the_observed_ends_of_a_scale_is_reached(share, label):
    metric = make_ordered_metric(range(9))
    (answer,) = predict_frechet([[share, 1 - share]], [0, 8], metric, answers="all")
    assert answer.label == label


def test_children_that_disagree_give_their_parent():
    metric = TreeMetric({"S52.1": "S52", "S52.2": "S52", "S52.3": "S52", "S62.1": "S62", "S52": "S", "S62": "S"})
    classes = ["S52.1", "S52.2", "S52.3", "S62.1"]
    probabilities = [[0.3, 0.3, 0.3, 0.1], [0.9, 0.04, 0.03, 0.03]]
    unsure, sure = predict_frechet(probabilities, classes, metric, answers="all")
    assert (unsure.label, sure.label) == ("S52", "S52.1")
    assert unsure.probability == pytest.approx(0.9)
    assert {answer.label for answer in predict_frechet(probabilities, classes, metric, answers="leaves")} <= set(
        classes
    )


def test_a_certain_class_is_the_answer_and_scaled_distances_change_nothing():
    parents, lengths = draw_tree()
    metric = TreeMetric(parents, lengths)
    scaled = TreeMetric(parents, {label: 7 * length for label, length in lengths.items()})
    classes = metric.labels[:30]
    certain = predict_frechet(np.eye(30), classes, metric, answers="all")
    assert [answer.label for answer in certain] == classes
    assert max(answer.expected_squared_distance for answer in certain) < 1e-9
    probabilities = draw_probabilities(40, 30)
    found, same = (
        [answer.label for answer in predict_frechet(probabilities, classes, one, answers="all")]
        for one in (metric, scaled)
    )
    assert found == same


def test_blocks_do_not_change_the_answers(monkeypatch):
    parents, lengths = draw_tree()
    metric = TreeMetric(parents, lengths)
    probabilities = draw_probabilities(25, 200)
    whole = predict_frechet(probabilities, metric.labels, metric, answers="all")
    monkeypatch.setattr(metric, "count_block_rows", lambda: 4)
    blocks = predict_frechet(probabilities, metric.labels, metric, answers="all")
    assert [answer.label for answer in blocks] == [answer.label for answer in whole]


def test_a_graph_has_the_lengths_of_its_shortest_paths():
    metric = make_graph_metric([("a", "b"), ("b", "c", 2.0), ("a", "c", 9.0), ("b", "c", 5.0)])
    a, b, c = metric.find_positions("abc")
    assert metric.compute_distances(np.array([a, a, b]), np.array([b, c, c])).tolist() == [1, 3, 2]


def test_names_are_as_far_apart_as_their_vectors():
    class Named:
        def encode(self, labels):
            return np.array([[3.0, 0], [0, 2], [1, 1]], dtype=np.float32)

        def as_float_vectors(self, vectors):
            return vectors

    metric = make_names_metric(Named(), ["x", "y", "z"])
    distances = metric.compute_distances(np.array([0, 0, 1]), np.array([1, 2, 2]))
    np.testing.assert_allclose(distances, np.sqrt([2, 2 - np.sqrt(2), 2 - np.sqrt(2)]), atol=1e-7)


def test_scores_count_levels_from_the_root():
    metric = TreeMetric({"a1": "a", "a2": "a", "b1": "b", "b": "root", "a": "root"})
    scores = score_answers(["a1", "a1", "b1", "a"], ["a2", "a", "a1", "a"], metric)
    assert scores == {
        "mean_squared_distance": (4 + 1 + 16 + 0) / 4,
        "accuracy": 0.25,
        "accuracy_level_1": 1.0,
        "accuracy_level_2": 0.75,
        "accuracy_level_3": 0.0,
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TreeMetric({"x": "a", "a": "b", "b": "a"}), "'a' is above itself"),
        (lambda: TreeMetric({"a": "b"}, weight=0), "needs a positive length, not 0"),
        (lambda: TreeMetric({"a": None}), "at least two labels"),
        (lambda: MatrixMetric(["a", "b"], [[0, 1], [2, 0]]), "must be symmetric"),
        (lambda: MatrixMetric(["a", "b"], [[0, 1]]), "a matrix of 2 × 2 distances"),
        (lambda: MatrixMetric(["a", "a"], np.zeros((2, 2))), "'a' occurs twice"),
        (lambda: MatrixMetric(["a", "b"], [[0, np.nan], [np.nan, 0]]), "must be finite"),
        (lambda: make_graph_metric([("a", "b"), ("c", "d")]), "no path leads from 'a' to 'c'"),
        (lambda: make_graph_metric([("a", "b", -1)]), "between 'a' and 'b' needs a positive length"),
        (lambda: make_ordered_metric(range(10_001)), "10001 labels are too many"),
        (lambda: make_ordered_metric("abc").find_positions(["a", "d"]), "'d' has no place"),
        (
            lambda: predict_frechet([[1.0, 0, 0]], "abc", make_ordered_metric("abc"), answers="nodes"),
            "'nodes' is unknown",
        ),
        (
            lambda: predict_frechet([[2.0, 1, 0]], "abc", make_ordered_metric("abc")),
            "numbers from 0 to 1 that sum to 1",
        ),
        (lambda: predict_frechet([[1.0, 0]], "abc", make_ordered_metric("abc")), r"shape \(n, 3\), not \(1, 2\)"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ZooError, match=message):
        make()
