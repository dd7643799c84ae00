"""How far the dimensions of a code mean one thing each: InfoMEC, and DCI, MIG and SAP for comparison. No torch.

Source: Hsu et al., "Disentanglement via Latent Quantization", arXiv 2305.18378, section 4. Everything takes `sources` (n, n_s),
the true labels of n samples, and `latents` (n, n_z), what an encoder made of them; `discrete` says whether a latent is an index
(or one of few values) or a real number. At least two sources that vary, or two active latents, are what the ratios compare.

The plug-in mutual information of indices is too high by about (values - 1)(labels - 1) / 2n nats, most where it is small, so that
InfoM and InfoC of few samples are too low, and InfoE, which is fitted on the samples themselves, too high. Compare
on 10,000 of them.

The dead cases have values of their own, and none of them is NaN:
    a source of one value has nothing to be told: its row of the NMI is 0, and no mean counts it;
    no active latent, or no source that varies: InfoM, InfoE and InfoC are 0;
    an active latent that tells nothing of any source, and a source of which no latent tells anything, count as spread evenly;
    a single source that varies (or active latent) makes InfoM (or InfoC) 1 if anything is told at all, else 0;
    continuous latents: a source no value of which comes twice, as with fewer samples than classes, tells no information that
    neighbours could show, so its row of the NMI is 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoo.core.errors import ZooError
from zoo.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")

NEIGHBOURS = 10  # of the estimate of mutual information with a real latent
BINS = 20  # SAP: intervals that a real latent is cut into
TREES, DEPTH, ROWS = 30, 12, 4000  # DCI: of the forest, and rows that it is grown on


def infomec(sources: Any, latents: Any, discrete: bool = True) -> dict[str, Any]:
    """InfoMEC of latents for sources.

    Args:
        sources: (n, n_s) whole numbers or strings; latents: (n, n_z) numbers; discrete: whether they are indices.

    Returns a mapping with
        infom: modularity, how far each active latent tells of one source alone; infoc: compactness, how far each source is
            told by one active latent alone; infoe: explicitness, how well all latents together predict each source by a
            logistic regression; each 1 at best. For codes that tell nothing InfoE is about 0; the other two are ratios of
            estimates that are then mere noise, so they stay a little above 0 on few samples;
        nmi: (n_s, n_z) float64, I(source; latent) / H(source); active: (n_z,) bool; informative: (n_s,) bool, the sources
            that vary; infoe_by_source: (n_s,) float64.

    Raises ZooError for arrays that do not fit together, none at all, or latents that are not finite.
    """
    classes, given = _checked(sources, latents)
    table = nmi(classes, given, discrete)
    active, varies = active_latents(given, discrete), classes.max(0) > 0
    told = np.zeros(len(varies))
    if active.any():
        inputs = _inputs(given, discrete)
        for i in np.flatnonzero(varies):
            told[i] = _explained(inputs, classes[:, i])
    kept = table[varies][:, active]
    return {
        "infom": _evenness(kept.T),
        "infoe": float(told[varies].mean()) if varies.any() else 0.0,
        "infoc": _evenness(kept),
        "nmi": table,
        "active": active,
        "informative": varies,
        "infoe_by_source": told,
    }


def measures(sources: Any, latents: Any, discrete: bool = True) -> tuple[dict[str, float], dict[str, Any]]:
    """Every measure of this module by name, InfoM first, and what `infomec` returns."""
    found = infomec(sources, latents, discrete)
    figures = {name: float(found[name]) for name in ("infom", "infoe", "infoc")}
    figures["active_latents"] = float(found["active"].sum())
    figures["mig"] = mig(found["nmi"][found["informative"]])
    figures["sap"] = sap(sources, latents, discrete)
    return figures | dci(sources, latents, discrete), found


def nmi(sources: Any, latents: Any, discrete: bool = True) -> np.ndarray:
    """(n_s, n_z): mutual information of each source with each latent over the source's entropy. Discrete: plug-in; continuous:
    by neighbours (Ross 2014, as scikit-learn has it) of the standardised latent."""
    from sklearn.feature_selection import mutual_info_classif
    from sklearn.metrics import mutual_info_score
    from sklearn.preprocessing import StandardScaler

    classes, given = _checked(sources, latents)
    out = np.zeros((classes.shape[1], given.shape[1]))
    values = _places(given) if discrete else StandardScaler().fit_transform(given)
    for i, source in enumerate(classes.T):
        counts = np.bincount(source)
        if len(counts) < 2 or (not discrete and counts.max() < 2):
            continue
        if discrete:
            out[i] = [mutual_info_score(source, latent) for latent in values.T]
        else:
            out[i] = mutual_info_classif(
                values, source, discrete_features=False, n_neighbors=NEIGHBOURS, random_state=0
            )
        out[i] /= mutual_info_score(source, source)
    return out


def active_latents(latents: Any, discrete: bool = True) -> np.ndarray:
    """(n_z,) bool: latents whose range is above 0; of real ones, above a twentieth of the largest range."""
    spread = np.ptp(np.asarray(latents, dtype=np.float64), axis=0)
    return spread > 0 if discrete else spread > spread.max(initial=0.0) / 20


def mig(table: np.ndarray) -> float:
    """Mutual information gap (Chen et al., arXiv 1802.04942, section 4.1) of an NMI (n_s, n_z): the mean over sources of the
    best latent's minus the second best one's; 0 for no source, and for a single latent its NMI."""
    if not table.size:
        return 0.0
    best = np.sort(np.pad(table, ((0, 0), (1, 0))), axis=1)
    return float((best[:, -1] - best[:, -2]).mean())


def sap(sources: Any, latents: Any, discrete: bool = True) -> float:
    """Separated attribute predictability (Kumar et al., arXiv 1711.00848, section 3): the mean over sources of the gap between
    the two latents that predict it best alone, by balanced accuracy of the best class a value; real latents are cut into
    BINS equal intervals. 0 where no source varies."""
    classes, given = _checked(sources, latents)
    if not discrete:
        low, spread = given.min(0), np.ptp(given, axis=0)
        given = np.minimum((given - low) / np.where(spread > 0, spread, 1) * BINS, BINS - 1).astype(int)
    values, gaps = _places(given), []
    for source in classes.T:
        if (count := int(source.max()) + 1) < 2:
            continue
        scores = [0.0]
        for latent in values.T:
            seen = np.bincount(latent * count + source, minlength=(int(latent.max()) + 1) * count).reshape(-1, count)
            scores.append(float((seen / seen.sum(0)).max(1).sum() / count))
        best = np.sort(scores)
        gaps.append(best[-1] - best[-2])
    return float(np.mean(gaps)) if gaps else 0.0


def dci(sources: Any, latents: Any, discrete: bool = True) -> dict[str, float]:
    """Disentanglement, completeness and informativeness (Eastwood and Williams, 2018) from the importances of a random forest
    that is grown on half of at most ROWS samples; informativeness is its mean accuracy on the other half. 0 where no source
    varies."""
    from sklearn.ensemble import RandomForestClassifier

    classes, given = _checked(sources, latents)
    order = np.random.RandomState(0).permutation(len(given))[:ROWS]
    grown, left = order[: (len(order) + 1) // 2], order[(len(order) + 1) // 2 :]
    weights, right = [], []
    for source in classes.T:
        if len(left) and len(np.unique(source[grown])) > 1:
            # every split looks at every latent: with a draw of them, even an ideal code would seem spread
            forest = RandomForestClassifier(TREES, max_depth=DEPTH, max_features=None, random_state=0)
            forest.fit(given[grown], source[grown])
            weights.append(forest.feature_importances_)
            right.append(float((forest.predict(given[left]) == source[left]).mean()))
    if not weights or not np.any(weights):
        return {"dci_disentanglement": 0.0, "dci_completeness": 0.0, "dci_informativeness": 0.0}
    table = np.stack(weights)
    return {
        "dci_disentanglement": _certainty(table.T),
        "dci_completeness": _certainty(table),
        "dci_informativeness": float(np.mean(right)),
    }


def _checked(sources: Any, latents: Any) -> tuple[np.ndarray, np.ndarray]:
    """Sources as places 0, 1, … of their sorted values (n, n_s), and latents as float64 (n, n_z)."""
    classes, given = np.asarray(sources), np.asarray(latents)
    if classes.ndim != 2 or given.ndim != 2 or len(classes) != len(given) or not classes.size or not given.size:
        raise ZooError(
            f"sources (n, n_s) and latents (n, n_z) of the same samples are needed, not {classes.shape} and {given.shape}"
        )
    given = given.astype(np.float64)
    if not np.isfinite(given).all():
        raise ZooError("latents hold values that are not finite")
    return _places(classes), given


def _places(values: np.ndarray) -> np.ndarray:
    return np.stack([np.unique(column, return_inverse=True)[1].ravel() for column in values.T], axis=1)


def _inputs(latents: np.ndarray, discrete: bool) -> Any:
    """What the regression is given: every latent one-hot, or standardised."""
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    return (OneHotEncoder() if discrete else StandardScaler()).fit_transform(latents)


def _explained(inputs: Any, source: np.ndarray) -> float:
    """(H0 - H) / H0 with H the log-loss of a logistic regression on the same samples, H0 that from inputs of zeros."""
    none = _log_loss(np.zeros((len(source), 1)), source)
    return (none - _log_loss(inputs, source)) / none


def _log_loss(inputs: Any, source: np.ndarray) -> float:
    import warnings

    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    model = LogisticRegression(C=np.inf, class_weight="balanced", solver="lbfgs", max_iter=100, tol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # the number of iterations is part of the definition, many classes are a dead case
        model.fit(inputs, source)
    return float(log_loss(source, model.predict_proba(inputs), labels=model.classes_))


def _evenness(table: np.ndarray) -> float:
    """(mean over rows of max / sum, minus 1/k) / (1 - 1/k) of a table (rows, k): 1 where every row is in one column alone, 0
    where all are spread evenly."""
    rows, k = table.shape
    if not rows or not k:
        return 0.0
    whole = table.sum(1)
    if k == 1:
        return float(whole.max() > 0)
    share = np.where(whole > 0, table.max(1) / np.where(whole > 0, whole, 1), 1 / k)
    return float((share.mean() - 1 / k) / (1 - 1 / k))


def _certainty(table: np.ndarray) -> float:
    """Mean over rows, weighted by their sums, of 1 minus the entropy of a row over k columns in units of log k."""
    whole = table.sum(1, keepdims=True)
    share = table / np.where(whole > 0, whole, 1)
    if table.shape[1] == 1:
        return 1.0
    entropy = -(share * np.log(np.where(share > 0, share, 1))).sum(1) / np.log(table.shape[1])
    return float(((1 - entropy) * whole[:, 0]).sum() / whole.sum())


def summary(found: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """What the card's picture and a reader need of `infomec`, as JSON: the NMI, names of its rows, and which columns count."""
    return {"nmi": np.round(found["nmi"], 5).tolist(), "sources": names, "active": found["active"].tolist()}
