"""How far each latent (a dimension of a code) stands for one source: InfoMEC, and DCI, MIG and SAP for comparison. No torch.

Source: Hsu et al., "Disentanglement via Latent Quantization", arXiv 2305.18378, section 4.

All functions take `sources` (n, n_s), the true labels of n samples, and `latents` (n, n_z), the codes of an encoder. `discrete`
says whether a latent is an index (or one of few values) or a real number. The ratios compare sources that vary and latents
that are active, so at least two of each are needed.

The plug-in estimate of mutual information between indices is too high by about (values - 1)(labels - 1) / 2n nats, and relatively
most if it is small. So InfoM and InfoC of few samples are too low. InfoE is fitted on the samples themselves, so it is too
high. Compare figures of 10,000 samples.

Degenerate cases have fixed values, never NaN:
    a source with one value: its row of the NMI is 0, and no mean counts it;
    no active latent, or no source that varies: InfoM, InfoE and InfoC are 0;
    an active latent without information about any source, or a source that no latent informs about, counts as spread evenly;
    a single source that varies (or a single active latent): InfoM (or InfoC) is 1 if there is any information, else 0;
    continuous latents and a source of which every value occurs once, for example with fewer samples than classes: its row of
    the NMI is 0, because neighbours cannot show any information.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.core.errors import ZooError

Array = np.ndarray[Any, Any]

NEIGHBOURS = 10  # for the estimate of mutual information with a real latent
SAP_BINS = 20  # intervals that a real latent is divided into
DCI_TREES, DCI_DEPTH, DCI_SAMPLES = 30, 12, 4000  # of the random forest


def infomec(sources: Any, latents: Any, discrete: bool = True) -> dict[str, Any]:
    """Compute InfoMEC of latents for sources; every score is 1 at best.

    Args:
        sources: (n, n_s) whole numbers or strings.
        latents: (n, n_z) numbers.
        discrete: whether the latents are indices.

    Returns a mapping with
        infom: modularity, how far each active latent informs about one source only;
        infoc: compactness, how far only one active latent informs about each source;
        infoe: explicitness, how well all latents together predict each source by a logistic regression;
        nmi: (n_s, n_z) float64, I(source; latent) / H(source);
        active: (n_z,) bool;
        informative: (n_s,) bool, the sources that vary;
        infoe_by_source: (n_s,) float64.

    For codes without any information infoe is about 0. The other two are then ratios of noise, so they stay a little above 0 on
    few samples. Raises ZooError for arrays that do not fit together, for empty ones, and for latents that are not finite.
    """
    classes, values = _check_arrays(sources, latents)
    nmi = compute_nmi(classes, values, discrete)
    active, varies = find_active_latents(values, discrete), classes.max(0) > 0
    explicitness = np.zeros(len(varies))
    if active.any():
        inputs = _make_regression_inputs(values, discrete)
        for i in np.flatnonzero(varies):
            explicitness[i] = _compute_explicitness(inputs, classes[:, i])
    counted_nmi = nmi[varies][:, active]
    return {
        "infom": _compute_concentration(counted_nmi.T),
        "infoe": float(explicitness[varies].mean()) if varies.any() else 0.0,
        "infoc": _compute_concentration(counted_nmi),
        "nmi": nmi,
        "active": active,
        "informative": varies,
        "infoe_by_source": explicitness,
    }


def compute_figures(sources: Any, latents: Any, discrete: bool = True) -> tuple[dict[str, float], dict[str, Any]]:
    """Return every figure of this module by name, InfoM first, and the result of `infomec`."""
    result = infomec(sources, latents, discrete)
    figures = {name: float(result[name]) for name in ("infom", "infoe", "infoc")}
    figures["active_latents"] = float(result["active"].sum())
    figures["mig"] = compute_mig(result["nmi"][result["informative"]])
    figures["sap"] = compute_sap(sources, latents, discrete)
    return figures | compute_dci(sources, latents, discrete), result


def summarise(result: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """Return the part of an `infomec` result that the card's picture needs, as JSON: NMI, source names, active latents."""
    return {"nmi": np.round(result["nmi"], 5).tolist(), "sources": names, "active": result["active"].tolist()}


def compute_nmi(sources: Any, latents: Any, discrete: bool = True) -> Array:
    """Return (n_s, n_z): the mutual information of each source with each latent, divided by the source's entropy.

    Discrete latents use the plug-in estimate. Real latents are standardised and use nearest neighbours (Ross 2014, as in
    scikit-learn).
    """
    from sklearn.feature_selection import mutual_info_classif
    from sklearn.metrics import mutual_info_score
    from sklearn.preprocessing import StandardScaler

    classes, values = _check_arrays(sources, latents)
    nmi = np.zeros((classes.shape[1], values.shape[1]))
    columns = _replace_by_ranks(values) if discrete else StandardScaler().fit_transform(values)
    for i, source in enumerate(classes.T):
        counts = np.bincount(source)
        if len(counts) < 2 or (not discrete and counts.max() < 2):
            continue
        if discrete:
            nmi[i] = [mutual_info_score(source, latent) for latent in columns.T]
        else:
            nmi[i] = mutual_info_classif(
                columns, source, discrete_features=False, n_neighbors=NEIGHBOURS, random_state=0
            )
        nmi[i] /= mutual_info_score(source, source)
    return nmi


def find_active_latents(latents: Any, discrete: bool = True) -> Array:
    """Return (n_z,) bool: the latents whose range is above 0, or for real ones above a twentieth of the largest range."""
    ranges: Array = np.ptp(np.asarray(latents, dtype=np.float64), axis=0)
    threshold = 0.0 if discrete else ranges.max(initial=0.0) / 20
    is_active: Array = ranges > threshold
    return is_active


def compute_mig(nmi: Array) -> float:
    """Mutual information gap of an NMI (n_s, n_z): the mean over sources of best minus second best latent.

    It is 0 without any source. A single latent's gap is its NMI. Source: Chen et al., arXiv 1802.04942, section 4.1.
    """
    if not nmi.size:
        return 0.0
    ascending = np.sort(np.pad(nmi, ((0, 0), (1, 0))), axis=1)
    return float((ascending[:, -1] - ascending[:, -2]).mean())


def compute_sap(sources: Any, latents: Any, discrete: bool = True) -> float:
    """Separated attribute predictability: the mean over sources of the gap between the two latents that predict it best alone.

    A latent's score is the balanced accuracy of predicting the most likely class of each value. Real latents are divided into
    SAP_BINS equal intervals. It is 0 if no source varies. Source: Kumar et al., arXiv 1711.00848, section 3.
    """
    classes, values = _check_arrays(sources, latents)
    if not discrete:
        low, ranges = values.min(0), np.ptp(values, axis=0)
        values = np.minimum((values - low) / np.where(ranges > 0, ranges, 1) * SAP_BINS, SAP_BINS - 1).astype(int)
    indices, gaps = _replace_by_ranks(values), []
    for source in classes.T:
        class_count = int(source.max()) + 1
        if class_count < 2:
            continue
        scores = [0.0]
        for latent in indices.T:
            cells = (int(latent.max()) + 1) * class_count
            counts = np.bincount(latent * class_count + source, minlength=cells).reshape(-1, class_count)
            scores.append(float((counts / counts.sum(0)).max(1).sum() / class_count))
        ascending = np.sort(scores)
        gaps.append(ascending[-1] - ascending[-2])
    return float(np.mean(gaps)) if gaps else 0.0


def compute_dci(sources: Any, latents: Any, discrete: bool = True) -> dict[str, float]:
    """Disentanglement, completeness and informativeness from the feature importances of a random forest for each source.

    The forest is fitted on half of at most DCI_SAMPLES samples. Informativeness is its mean accuracy on the other half. All are
    0 if no source varies. Source: Eastwood and Williams, 2018.
    """
    from sklearn.ensemble import RandomForestClassifier

    classes, values = _check_arrays(sources, latents)
    order = np.random.RandomState(0).permutation(len(values))[:DCI_SAMPLES]
    middle = (len(order) + 1) // 2
    train, test = order[:middle], order[middle:]
    importances, accuracies = [], []
    for source in classes.T:
        if len(test) and len(np.unique(source[train])) > 1:
            # every split considers every latent: with a random choice, even an ideal code would seem spread
            forest = RandomForestClassifier(DCI_TREES, max_depth=DCI_DEPTH, max_features=None, random_state=0)
            forest.fit(values[train], source[train])
            importances.append(forest.feature_importances_)
            accuracies.append(float((forest.predict(values[test]) == source[test]).mean()))
    if not importances or not np.any(importances):
        return {"dci_disentanglement": 0.0, "dci_completeness": 0.0, "dci_informativeness": 0.0}
    table = np.stack(importances)
    return {
        "dci_disentanglement": _compute_mean_certainty(table.T),
        "dci_completeness": _compute_mean_certainty(table),
        "dci_informativeness": float(np.mean(accuracies)),
    }


def _check_arrays(sources: Any, latents: Any) -> tuple[Array, Array]:
    """Return sources as ranks 0, 1, … of their sorted values (n, n_s), and latents as float64 (n, n_z)."""
    classes, values = np.asarray(sources), np.asarray(latents)
    if classes.ndim != 2 or values.ndim != 2 or len(classes) != len(values) or not classes.size or not values.size:
        raise ZooError(
            f"sources (n, n_s) and latents (n, n_z) of the same samples are needed, not {classes.shape} and {values.shape}"
        )
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise ZooError("latents contain values that are not finite (NaN or infinity)")
    return _replace_by_ranks(classes), values


def _replace_by_ranks(values: Array) -> Array:
    """Replace the values of each column by their ranks 0, 1, … among its distinct values."""
    return np.stack([np.unique(column, return_inverse=True)[1].ravel() for column in values.T], axis=1)


def _make_regression_inputs(latents: Array, discrete: bool) -> Any:
    """Return the latents one-hot, or standardised if they are real."""
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    return (OneHotEncoder() if discrete else StandardScaler()).fit_transform(latents)


def _compute_explicitness(inputs: Any, source: Array) -> float:
    """(H0 - H) / H0: H is the log-loss of a logistic regression on the same samples, H0 that from inputs of zeros."""
    base_loss = _compute_log_loss(np.zeros((len(source), 1)), source)
    return (base_loss - _compute_log_loss(inputs, source)) / base_loss


def _compute_log_loss(inputs: Any, source: Array) -> float:
    import warnings

    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    model = LogisticRegression(C=np.inf, class_weight="balanced", solver="lbfgs", max_iter=100, tol=1e-4)
    with warnings.catch_warnings():
        # the number of iterations is part of the definition, and many classes are a degenerate case
        warnings.simplefilter("ignore")
        model.fit(inputs, source)
    return float(log_loss(source, model.predict_proba(inputs), labels=model.classes_))


def _compute_concentration(table: Array) -> float:
    """(mean over rows of max / sum, minus 1/k) / (1 - 1/k) of a table (rows, k).

    It is 1 if every row has one column that is not 0, and 0 if all rows are spread evenly.
    """
    rows, k = table.shape
    if not rows or not k:
        return 0.0
    sums = table.sum(1)
    if k == 1:
        return float(sums.max() > 0)
    largest_shares = np.where(sums > 0, table.max(1) / np.where(sums > 0, sums, 1), 1 / k)
    return float((largest_shares.mean() - 1 / k) / (1 - 1 / k))


def _compute_mean_certainty(table: Array) -> float:
    """Mean over rows, weighted by their sums, of 1 minus the entropy of a row over k columns in units of log k."""
    sums = table.sum(1, keepdims=True)
    shares = table / np.where(sums > 0, sums, 1)
    if table.shape[1] == 1:
        return 1.0
    entropies = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(1) / np.log(table.shape[1])
    return float(((1 - entropies) * sums[:, 0]).sum() / sums.sum())
