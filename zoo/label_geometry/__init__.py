"""Distances between labels, and predictions that respect them.

A `LabelMetric` says how far two labels are from each other: in a tree, on a scale, in a graph, by names or by a matrix.
`predict_frechet` chooses the label with the smallest expected squared distance to the truth.
"""

from zoo.label_geometry.frechet import ANSWERS, FrechetAnswer, predict_frechet
from zoo.label_geometry.label_metric import LabelMetric
from zoo.label_geometry.matrix_metric import MatrixMetric, make_graph_metric, make_names_metric, make_ordered_metric
from zoo.label_geometry.tree_metric import TreeMetric

__all__ = [
    "ANSWERS",
    "FrechetAnswer",
    "LabelMetric",
    "MatrixMetric",
    "TreeMetric",
    "make_graph_metric",
    "make_names_metric",
    "make_ordered_metric",
    "predict_frechet",
]
