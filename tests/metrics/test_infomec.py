"""InfoMEC against its formulas, on ideal and shuffled codes, and in degenerate cases."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import mutual_info_classif
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from zoo.core.errors import ZooError
from zoo.metrics import disentanglement
from zoo.metrics.disentanglement import infomec


def draw_sources_and_codes(n=1500, sizes=(3, 5, 4), values=(4, 6, 3, 5), seed=0):
    """Draw sources, and latents that each mix two of them with noise; the last but one latent is constant."""
    draw = np.random.default_rng(seed)
    sources = np.stack([draw.integers(0, size, n) for size in sizes], axis=1)
    mixed = [sources[:, j % 3] * 2 + sources[:, (j + 1) % 3] + draw.integers(0, 3, n) for j in range(len(values))]
    latents = np.stack([m % v for m, v in zip(mixed, values, strict=True)], axis=1)
    return sources, np.insert(latents, 3, 7, axis=1)


def compute_plug_in_information(a, b):
    """I(a; b) in nats from the joint frequencies."""
    joint = np.array([[np.mean((a == x) & (b == y)) for y in np.unique(b)] for x in np.unique(a)])
    outer = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    return sum(p * np.log(p / q) for p, q in zip(joint.ravel(), outer.ravel(), strict=True) if p > 0)


def compute_entropy(a):
    shares = np.unique(a, return_counts=True)[1] / len(a)
    return -(shares * np.log(shares)).sum()


def compute_log_loss(inputs, source):
    model = LogisticRegression(C=np.inf, class_weight="balanced", solver="lbfgs", max_iter=100, tol=1e-4)
    return log_loss(source, model.fit(inputs, source).predict_proba(inputs))


def compute_infomec_by_hand(sources, latents, nmi, active, inputs):
    n_s, active_nmi = sources.shape[1], nmi[:, active]
    infom = (np.mean(active_nmi.max(0) / active_nmi.sum(0)) - 1 / n_s) / (1 - 1 / n_s)
    infoc = (np.mean(active_nmi.max(1) / active_nmi.sum(1)) - 1 / active.sum()) / (1 - 1 / active.sum())
    explicitness = []
    for source in sources.T:
        base_loss = compute_log_loss(np.zeros_like(inputs), source)
        explicitness.append((base_loss - compute_log_loss(inputs, source)) / base_loss)
    return infom, np.mean(explicitness), infoc


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.parametrize("seed", range(4))
def test_discrete_codes_agree_with_the_formulas(seed):
    sources, latents = draw_sources_and_codes(seed=seed)
    nmi = np.array([[compute_plug_in_information(s, z) / compute_entropy(s) for z in latents.T] for s in sources.T])
    hot = np.concatenate([(z[:, None] == np.unique(z)).astype(float) for z in latents.T], axis=1)
    active = np.array([len(np.unique(z)) > 1 for z in latents.T])
    infom, infoe, infoc = compute_infomec_by_hand(sources, latents, nmi, active, hot)
    result = infomec(sources, latents, discrete=True)
    np.testing.assert_allclose(result["nmi"], nmi, atol=1e-9)
    assert result["active"].tolist() == active.tolist() == [True, True, True, False, True]
    assert result["infom"] == pytest.approx(infom, abs=1e-6)
    assert result["infoc"] == pytest.approx(infoc, abs=1e-6)
    assert result["infoe"] == pytest.approx(infoe, abs=1e-6)
    assert 0.05 < result["infom"] < 0.95
    assert 0.05 < result["infoe"] < 0.95


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
def test_continuous_latents_agree_with_the_formulas():
    sources, _ = draw_sources_and_codes(600)
    noise = np.random.default_rng(1).normal(size=(600, 5))
    real = sources[:, [0, 1, 2, 0, 1]] + 0.3 * sources[:, [1, 2, 0, 1, 2]] + 0.4 * noise
    real *= np.array([1, 3, 2, 1, 4])
    real[:, 3] = noise[:, 3] * 0.01  # a range below a twentieth of the largest
    unit = (real - real.mean(0)) / real.std(0)
    nmi = np.array(
        [
            mutual_info_classif(unit, s, discrete_features=False, n_neighbors=10, random_state=0) / compute_entropy(s)
            for s in sources.T
        ]
    )
    active = np.array([True, True, True, False, True])
    infom, infoe, infoc = compute_infomec_by_hand(sources, real, nmi, active, unit)
    result = infomec(sources, real, discrete=False)
    np.testing.assert_allclose(result["nmi"], nmi, atol=1e-9)
    assert result["active"].tolist() == active.tolist()
    assert (result["infom"], result["infoc"]) == (pytest.approx(infom, abs=1e-6), pytest.approx(infoc, abs=1e-6))
    assert result["infoe"] == pytest.approx(infoe, abs=1e-6)


def test_explicitness_has_the_regression_and_the_loss_of_the_paper(monkeypatch):
    options = []

    class Recorder(LogisticRegression):
        def __init__(self, **given):
            options.append(given)
            super().__init__(**given)

    monkeypatch.setattr("sklearn.linear_model.LogisticRegression", Recorder)
    infomec(*draw_sources_and_codes(40))
    settings = {"C": np.inf, "class_weight": "balanced", "solver": "lbfgs", "max_iter": 100, "tol": 1e-4}
    assert options == [settings] * 6, "twice for each source"


def grid(*sizes):
    return np.stack([axis.ravel() for axis in np.meshgrid(*map(np.arange, sizes), indexing="ij")], axis=1)


def test_an_ideal_code_scores_1_also_with_renamed_values_in_another_order_and_beside_an_inactive_latent():
    sources = np.tile(grid(3, 6, 8), (10, 1))
    renamed = np.stack(
        [(sources[:, 2] * 5 + 3) % 8, 2 - sources[:, 0], np.full(len(sources), 4), sources[:, 1]], axis=1
    )
    for latents in (sources, renamed):
        result = infomec(sources, latents)
        assert (result["infom"], result["infoc"]) == (pytest.approx(1), pytest.approx(1))
        assert result["infoe"] == pytest.approx(1, abs=0.01)
    figures, _ = disentanglement.compute_figures(sources, renamed)
    assert figures["mig"] == pytest.approx(1)
    assert figures["dci_disentanglement"] > 0.95
    assert figures["dci_completeness"] > 0.95
    assert figures["dci_informativeness"] > 0.95
    chance = np.mean([1 / 3, 1 / 6, 1 / 8])
    assert figures["sap"] == pytest.approx(1 - chance, abs=1e-9)


def test_a_shuffled_code_scores_about_0():
    draw = np.random.default_rng(3)
    sources = np.tile(grid(3, 4, 5), (150, 1))
    latents = draw.permutation(sources)
    result = infomec(sources, latents)
    assert abs(result["infoe"]) < 0.01
    assert result["nmi"].max() < 0.01
    figures, _ = disentanglement.compute_figures(sources, latents)
    assert abs(figures["mig"]) < 0.01
    assert abs(figures["sap"]) < 0.05
    continuous = infomec(sources, draw.normal(size=sources.shape), discrete=False)
    assert abs(continuous["infoe"]) < 0.01
    assert continuous["nmi"].max() < 0.03


def test_a_code_with_all_sources_in_every_latent_is_neither_modular_nor_compact():
    sources = np.tile(grid(4, 4), (20, 1))
    both = sources[:, :1] * 4 + sources[:, 1:]
    result = infomec(sources, np.repeat(both, 3, axis=1))
    assert result["infom"] == pytest.approx(0, abs=1e-9)
    assert result["infoc"] == pytest.approx(0, abs=1e-9)
    assert result["infoe"] > 0.99


def compute_finite_infomec(sources, latents, discrete):
    figures, result = disentanglement.compute_figures(sources, latents, discrete)
    assert np.isfinite(list(figures.values())).all()
    assert np.isfinite(result["nmi"]).all()
    json.dumps(disentanglement.summarise(result, ["a"] * len(result["nmi"])), allow_nan=False)
    return result


@pytest.mark.parametrize("discrete", [True, False])
def test_degenerate_cases_have_fixed_values(discrete):
    sources, latents = draw_sources_and_codes(300)
    latents = latents.astype(float)
    inactive = compute_finite_infomec(sources, np.full_like(latents, 0.3), discrete)
    assert not inactive["active"].any()
    assert (inactive["infom"], inactive["infoe"], inactive["infoc"]) == (0, 0, 0)

    constant = np.insert(sources, 1, 5, axis=1)
    result, without = (
        compute_finite_infomec(constant, latents, discrete),
        compute_finite_infomec(sources, latents, discrete),
    )
    assert result["informative"].tolist() == [True, False, True, True]
    assert (result["nmi"][1] == 0).all()
    for name in ("infom", "infoe", "infoc"):
        assert result[name] == pytest.approx(without[name], abs=1e-9)

    nothing = compute_finite_infomec(np.zeros((50, 2), int), latents[:50], discrete)
    assert (nothing["infom"], nothing["infoe"], nothing["infoc"]) == (0, 0, 0)

    ids = np.arange(40)  # as many classes as samples
    few = compute_finite_infomec(np.stack([ids, ids % 2], axis=1), latents[:40], discrete)
    assert bool(few["nmi"][0].max() > 0) is discrete
    compute_finite_infomec(sources[:1], latents[:1], discrete)
    compute_finite_infomec(sources[:2], latents[:2], discrete)

    alone = compute_finite_infomec(sources[:, :1], latents[:, :1], discrete)
    assert alone["infom"] == alone["infoc"] == 1


def test_arrays_that_do_not_fit_together_are_refused():
    sources, latents = draw_sources_and_codes(20)
    for arrays in (
        (sources[:10], latents),
        (sources[:, 0], latents),
        (sources[:0], latents[:0]),
        (sources, latents[:, :0]),
    ):
        with pytest.raises(ZooError, match="of the same samples are needed"):
            infomec(*arrays)
    with pytest.raises(ZooError, match="not finite"):
        infomec(sources, np.full(latents.shape, np.nan), discrete=False)


def test_sources_may_be_strings():
    sources, latents = draw_sources_and_codes(200)
    names = np.array(["cross", "disc", "heart", "square", "star"])[sources]
    assert infomec(names, latents)["infom"] == infomec(sources, latents)["infom"]


def test_infomec_imports_neither_torch_nor_mteb():
    code = (
        "import sys, numpy as np\nfrom zoo.metrics.disentanglement import infomec\n"
        "x = np.random.default_rng(0).integers(0, 3, (60, 2))\n"
        "print(sorted(infomec(x, x))[:2], 'torch' in sys.modules, 'mteb' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert out.stdout.strip() == "['active', 'infoc'] False False", out.stderr


def test_few_samples_make_a_code_look_less_modular_and_more_explicit():
    draw = np.random.default_rng(0)
    sources = draw.integers(0, 20, (10_000, 3))
    latents = np.where(draw.random((10_000, 3)) < 0.3, sources, draw.integers(0, 20, (10_000, 3)))
    few, many = infomec(sources[:500], latents[:500]), infomec(sources, latents)
    assert few["infom"] < many["infom"]
    assert few["infoe"] > many["infoe"]


# -- the other measures, against their formulas ------------------------------------------------------------------------


def compute_mean_certainty_by_hand(importances):
    """Mean over rows, weighted by their sums, of 1 minus the entropy in units of the largest one."""
    certainties, weights = [], []
    for row in importances:
        shares = [value / sum(row) for value in row if value > 0]
        certainties.append(1 + sum(share * np.log(share) for share in shares) / np.log(len(row)))
        weights.append(sum(row))
    return np.average(certainties, weights=weights)


@pytest.mark.parametrize("count", [301, 4100])
def test_dci_agrees_with_its_formulas_on_the_importances_of_forests(count):
    sources, latents = draw_sources_and_codes(count, sizes=(3, 2, 4))
    latents = latents[:, [0, 1, 2, 4]]
    figures = disentanglement.compute_dci(sources, latents)
    order = np.random.RandomState(0).permutation(count)[:4000]
    middle = -(-len(order) // 2)
    importances, accuracies = [], []
    for source in sources.T:
        forest = RandomForestClassifier(30, max_depth=12, max_features=None, random_state=0)
        forest.fit(latents[order[:middle]], source[order[:middle]])
        importances.append(forest.feature_importances_)
        accuracies.append(forest.score(latents[order[middle:]], source[order[middle:]]))
    assert figures == {
        "dci_disentanglement": pytest.approx(compute_mean_certainty_by_hand(np.transpose(importances))),
        "dci_completeness": pytest.approx(compute_mean_certainty_by_hand(importances)),
        "dci_informativeness": pytest.approx(np.mean(accuracies)),
    }


def test_dci_leaves_out_latents_without_importance_and_sources_that_do_not_vary():
    sources, latents = draw_sources_and_codes(400)
    with_constant = disentanglement.compute_dci(sources, latents)
    np.testing.assert_allclose(
        list(with_constant.values()),
        list(disentanglement.compute_dci(np.insert(sources, 0, 1, axis=1), latents).values()),
    )
    alone = disentanglement.compute_dci(sources[:, :1], sources[:, :1])
    assert alone == {"dci_disentanglement": 1, "dci_completeness": 1, "dci_informativeness": 1}
    nothing = {"dci_disentanglement": 0, "dci_completeness": 0, "dci_informativeness": 0}
    assert disentanglement.compute_dci(np.zeros((20, 2)), latents[:20]) == nothing
    assert disentanglement.compute_dci(sources[:20], np.zeros((20, 2))) == nothing
    assert disentanglement.compute_dci(sources[:1], latents[:1]) == nothing
    assert disentanglement.compute_dci(np.array([[0], [1], [2]]), np.arange(3)[:, None])["dci_disentanglement"] == 1


def test_mig_is_the_gap_between_the_two_best_latents_of_each_source():
    assert disentanglement.compute_mig(np.array([[0.2, 0.9, 0.5], [0.1, 0.1, 0.1]])) == pytest.approx(0.2)
    assert disentanglement.compute_mig(np.array([[0.7], [0.1]])) == pytest.approx(0.4)
    assert disentanglement.compute_mig(np.zeros((0, 3))) == disentanglement.compute_mig(np.zeros((3, 0))) == 0


def compute_sap_by_hand(sources, latents):
    """Gap of the balanced accuracies of the two best latents, each by the most likely class of each of its values."""
    gaps = []
    for source in sources.T:
        scores = []
        for latent in latents.T:
            chances = np.array(
                [[np.mean(latent[source == s] == z) for s in np.unique(source)] for z in np.unique(latent)]
            )
            scores.append(chances.max(1).sum() / len(np.unique(source)))
        gaps.append(np.subtract(*sorted(scores)[:-3:-1]))
    return np.mean(gaps)


def test_sap_is_the_gap_of_the_balanced_accuracies_of_the_two_best_latents():
    sources, latents = draw_sources_and_codes(500)
    expected = pytest.approx(compute_sap_by_hand(sources, latents))
    assert disentanglement.compute_sap(sources, latents) == expected
    assert disentanglement.compute_sap(sources * 3 - 1, latents * 2.5) == expected, "values may be any numbers"
    assert disentanglement.compute_sap(np.insert(sources, 1, 4, axis=1), latents) == expected
    assert disentanglement.compute_sap(np.zeros((500, 1)), latents) == 0
    single = disentanglement.compute_sap(sources[:, :1], sources[:, :1])
    assert single == pytest.approx(1), "the second best of a single latent is 0"


@pytest.mark.filterwarnings("error")
def test_a_real_latent_that_never_changes_predicts_nothing():
    sources, latents = np.arange(300)[:, None] % 3, np.random.default_rng(1).standard_normal((300, 2))
    expected = disentanglement.compute_sap(sources, latents[:, :1], discrete=False)
    constant = np.column_stack([np.full(300, 4.2), latents[:, 0]])
    chance = 1 / 3  # the balanced accuracy of one value for all
    assert disentanglement.compute_sap(sources, constant, discrete=False) == pytest.approx(expected - chance)


def test_sap_divides_real_latents_into_twenty_equal_intervals_of_which_the_last_has_the_maximum():
    sources, _ = draw_sources_and_codes(400)
    draw = np.random.default_rng(4)
    latents = np.stack(
        [sources[:, 0] + draw.random(400), 5 - 2 * sources[:, 1] * draw.random(400), np.ones(400)], axis=1
    )
    edges = [np.linspace(low, high, 21)[1:-1] for low, high in zip(latents.min(0), latents.max(0), strict=True)]
    bins = np.stack([np.digitize(latent, inner) for latent, inner in zip(latents.T, edges, strict=True)], axis=1)
    expected = pytest.approx(compute_sap_by_hand(sources, bins))
    assert disentanglement.compute_sap(sources, latents, discrete=False) == expected


def test_latents_are_active_above_a_twentieth_of_the_largest_range():
    latents = np.array([[0.0, 5.0, -1.0, 0.0], [1.0, 5.06, -1.04, 0.05]])
    assert disentanglement.find_active_latents(latents, discrete=False).tolist() == [True, True, False, False]
    assert disentanglement.find_active_latents(latents, discrete=True).tolist() == [True] * 4
    assert disentanglement.find_active_latents(latents).tolist() == [True] * 4
    assert disentanglement.find_active_latents(np.array([[-128], [127]], np.int8)).tolist() == [True]


def test_a_row_without_values_counts_as_spread_evenly():
    assert disentanglement._compute_concentration(np.array([[1.0, 0, 0], [0, 0, 0]])) == pytest.approx(0.5)


def test_figures_come_with_infom_first_and_the_summary_is_json_with_five_digits():
    sources, latents = draw_sources_and_codes(200)
    figures, result = disentanglement.compute_figures(sources, latents)
    assert list(figures)[:6] == ["infom", "infoe", "infoc", "active_latents", "mig", "sap"]
    assert figures["active_latents"] == 4
    assert figures["mig"] == pytest.approx(disentanglement.compute_mig(result["nmi"]))
    assert result["infoe"] == pytest.approx(result["infoe_by_source"].mean())
    summary = json.loads(json.dumps(disentanglement.summarise(result, ["a", "b", "c"])))
    assert summary["nmi"] == np.round(result["nmi"], 5).tolist()
    assert (summary["sources"], summary["active"]) == (["a", "b", "c"], [True, True, True, False, True])
