"""The metrics of each task over the user's own data, by name."""

from __future__ import annotations

from zoo.core.suggest import suggest
from zoo.evaluation.shaping import CUT_OFFS

_MORE_CUT_OFFS = (1, 3, 5, 10, 20, 100, 1000)  # of tasks for which zoo does not set them


def _rank(main: str, cut_offs: tuple[int, ...]) -> tuple[str, ...]:
    names = [f"{name}_at_{k}" for name in ("ndcg", "map", "recall", "precision", "mrr", "hit_rate") for k in cut_offs]
    return tuple(dict.fromkeys((main, *names)))


_CLASSES = ("accuracy", "f1", "f1_weighted", "precision", "precision_weighted", "recall", "recall_weighted")
_PAIRS = tuple(
    f"{kind}_{name}" for name in ("ap", "accuracy", "f1", "precision", "recall") for kind in ("max", "cosine")
)
_METRICS = {
    "retrieval": _rank("ndcg_at_10", CUT_OFFS),
    "any-retrieval": _rank("ndcg_at_10", CUT_OFFS),
    "reranking": _rank("map_at_1000", _MORE_CUT_OFFS),
    "mmeb": ("strict_hit_at_1",),
    "sts": ("cosine_spearman", "cosine_pearson", "spearman", "pearson"),
    "classification": _CLASSES,
    "image-classification": _CLASSES,
    "zero-shot": _CLASSES,
    "pair-classification": _PAIRS,
    "clustering": ("v_measure", "ami"),
    "image-clustering": ("v_measure", "ami"),
    "infomec": (
        "infom",
        "infoe",
        "infoc",
        "mig",
        "sap",
        "dci_disentanglement",
        "dci_completeness",
        "dci_informativeness",
    ),
    "diagnose": ("vendi", "rankme", "rankme_centred", "participation", "coding_rate"),
    "few-shot": ("accuracy",),
    "geometry": (
        "nearest_mean",
        "cdnv",
        "v_information",
        "v_information_share",
        "variance_ratio",
        "simplex",
        "simplex_norms",
        "simplex_angles",
        "orthogonality",
        "label_sharpness",
        "label_sharpness_999",
    ),
    "recognition": ("top1", "top5", "knn", "ece", "ood_auroc", "refused_unknown"),
}
"""The main score of each task comes first. Measures that have no better direction are left out."""


def list_metrics(task: str) -> tuple[str, ...]:
    """Return the metrics of a task by which weights can be chosen, the main score first."""
    return _METRICS[task]


def find_problem(task: str, metric: str | None) -> str | None:
    """Say that a task does not have a metric, and name the near ones; None if it has it, or if none is named."""
    names = list_metrics(task)
    if metric is None or metric in names:
        return None
    return f"the task {task} has no metric {metric!r}{suggest(metric, names)}"
