"""InfoMEC against its formulas, on ideal and shuffled codes, and in degenerate cases."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
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
