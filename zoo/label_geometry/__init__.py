"""Distances between labels, and predictions that respect them.

`LabelMetric` says how far two labels are from each other: in a tree, in a graph, on a scale, by names, or by a matrix.
`predict_frechet` chooses the label with the smallest expected squared distance to the truth.
"""

from zoo.label_geometry.frechet import ANSWERS, FrechetAnswer, predict_frechet
from zoo.label_geometry.label_metric import LabelMetric

__all__ = ["ANSWERS", "FrechetAnswer", "LabelMetric", "predict_frechet"]
