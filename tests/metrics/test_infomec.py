"""InfoMEC against the formulas, written down again here; ideal and shuffled codes; the dead cases; its neighbours; the task."""

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
from zoo.evaluation import infomec
from zoo.metrics import disentanglement


def drawn(n=1500, sizes=(3, 5, 4), values=(4, 6, 3, 5), seed=0):
    """Sources, and codes that each mix two of them with noise; the last but one latent is constant."""
    draw = np.random.default_rng(seed)
    sources = np.stack([draw.integers(0, size, n) for size in sizes], axis=1)
    mixed = [sources[:, j % 3] * 2 + sources[:, (j + 1) % 3] + draw.integers(0, 3, n) for j in range(len(values))]
    latents = np.stack([m % v for m, v in zip(mixed, values, strict=True)], axis=1)
    return sources, np.insert(latents, 3, 7, axis=1)


def plug_in(a, b):
    """I(a; b) in nats from the joint frequencies."""
    joint = np.array([[np.mean((a == x) & (b == y)) for y in np.unique(b)] for x in np.unique(a)])
    outer = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    return sum(p * np.log(p / q) for p, q in zip(joint.ravel(), outer.ravel(), strict=True) if p > 0)


def entropy(a):
    shares = np.unique(a, return_counts=True)[1] / len(a)
    return -(shares * np.log(shares)).sum()


def loss(inputs, source):
    model = LogisticRegression(C=np.inf, class_weight="balanced", solver="lbfgs", max_iter=100, tol=1e-4)
    return log_loss(source, model.fit(inputs, source).predict_proba(inputs))


def oracle(sources, latents, nmi, active, inputs):
    n_s, kept = sources.shape[1], nmi[:, active]
    infom = (np.mean(kept.max(0) / kept.sum(0)) - 1 / n_s) / (1 - 1 / n_s)
    infoc = (np.mean(kept.max(1) / kept.sum(1)) - 1 / active.sum()) / (1 - 1 / active.sum())
    told = []
    for source in sources.T:
        none = loss(np.zeros_like(inputs), source)
        told.append((none - loss(inputs, source)) / none)
    return infom, np.mean(told), infoc


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.parametrize("seed", range(4))
def test_discrete_codes_agree_with_the_formulas(seed):
    sources, latents = drawn(seed=seed)
    nmi = np.array([[plug_in(s, z) / entropy(s) for z in latents.T] for s in sources.T])
    hot = np.concatenate([(z[:, None] == np.unique(z)).astype(float) for z in latents.T], axis=1)
    active = np.array([len(np.unique(z)) > 1 for z in latents.T])
    infom, infoe, infoc = oracle(sources, latents, nmi, active, hot)
    found = infomec(sources, latents, discrete=True)
    np.testing.assert_allclose(found["nmi"], nmi, atol=1e-9)
    assert found["active"].tolist() == active.tolist() == [True, True, True, False, True]
    assert found["infom"] == pytest.approx(infom, abs=1e-6)
    assert found["infoc"] == pytest.approx(infoc, abs=1e-6)
    assert found["infoe"] == pytest.approx(infoe, abs=1e-6)
    assert 0.05 < found["infom"] < 0.95
    assert 0.05 < found["infoe"] < 0.95


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
def test_continuous_latents_agree_with_the_formulas():
    sources, _ = drawn(600)
    noise = np.random.default_rng(1).normal(size=(600, 5))
    real = sources[:, [0, 1, 2, 0, 1]] + 0.3 * sources[:, [1, 2, 0, 1, 2]] + 0.4 * noise
    real *= np.array([1, 3, 2, 1, 4])
    real[:, 3] = noise[:, 3] * 0.01  # a range below a twentieth of the largest
    unit = (real - real.mean(0)) / real.std(0)
    nmi = np.array(
        [
            mutual_info_classif(unit, s, discrete_features=False, n_neighbors=10, random_state=0) / entropy(s)
            for s in sources.T
        ]
    )
    active = np.array([True, True, True, False, True])
    infom, infoe, infoc = oracle(sources, real, nmi, active, unit)
    found = infomec(sources, real, discrete=False)
    np.testing.assert_allclose(found["nmi"], nmi, atol=1e-9)
    assert found["active"].tolist() == active.tolist()
    assert (found["infom"], found["infoc"]) == (pytest.approx(infom, abs=1e-6), pytest.approx(infoc, abs=1e-6))
    assert found["infoe"] == pytest.approx(infoe, abs=1e-6)


def grid(*sizes):
    return np.stack([axis.ravel() for axis in np.meshgrid(*map(np.arange, sizes), indexing="ij")], axis=1)


def test_ideal_codes_are_1_and_so_they_are_under_other_names_in_another_order_and_beside_a_dead_latent():
    sources = np.tile(grid(3, 6, 8), (10, 1))
    renamed = np.stack(
        [(sources[:, 2] * 5 + 3) % 8, 2 - sources[:, 0], np.full(len(sources), 4), sources[:, 1]], axis=1
    )
    for latents in (sources, renamed):
        found = infomec(sources, latents)
        assert (found["infom"], found["infoc"]) == (pytest.approx(1), pytest.approx(1))
        assert found["infoe"] == pytest.approx(1, abs=0.01)
    figures, _ = disentanglement.compute_figures(sources, renamed)
    assert figures["mig"] == pytest.approx(1)
    assert figures["dci_disentanglement"] > 0.95
    assert figures["dci_completeness"] > 0.95
    assert figures["dci_informativeness"] > 0.95
    chance = np.mean([1 / 3, 1 / 6, 1 / 8])
    assert figures["sap"] == pytest.approx(1 - chance, abs=1e-9)


def test_shuffled_codes_are_about_0():
    draw = np.random.default_rng(3)
    sources = np.tile(grid(3, 4, 5), (150, 1))
    latents = draw.permutation(sources)
    found = infomec(sources, latents)
    assert abs(found["infoe"]) < 0.01
    assert found["nmi"].max() < 0.01
    figures, _ = disentanglement.compute_figures(sources, latents)
    assert abs(figures["mig"]) < 0.01
    assert abs(figures["sap"]) < 0.05
    continuous = infomec(sources, draw.normal(size=sources.shape), discrete=False)
    assert abs(continuous["infoe"]) < 0.01
    assert continuous["nmi"].max() < 0.03


def test_a_code_of_all_sources_in_every_latent_is_neither_modular_nor_compact():
    sources = np.tile(grid(4, 4), (20, 1))
    both = sources[:, :1] * 4 + sources[:, 1:]
    found = infomec(sources, np.repeat(both, 3, axis=1))
    assert found["infom"] == pytest.approx(0, abs=1e-9)
    assert found["infoc"] == pytest.approx(0, abs=1e-9)
    assert found["infoe"] > 0.99


def finite(sources, latents, discrete):
    figures, found = disentanglement.compute_figures(sources, latents, discrete)
    assert np.isfinite(list(figures.values())).all()
    assert np.isfinite(found["nmi"]).all()
    json.dumps(disentanglement.summarise(found, ["a"] * len(found["nmi"])), allow_nan=False)
    return found


@pytest.mark.parametrize("discrete", [True, False])
def test_dead_cases_have_values_of_their_own(discrete):
    sources, latents = drawn(300)
    latents = latents.astype(float)
    dead = finite(sources, np.full_like(latents, 0.3), discrete)
    assert not dead["active"].any()
    assert (dead["infom"], dead["infoe"], dead["infoc"]) == (0, 0, 0)

    constant = np.insert(sources, 1, 5, axis=1)
    found, without = finite(constant, latents, discrete), finite(sources, latents, discrete)
    assert found["informative"].tolist() == [True, False, True, True]
    assert (found["nmi"][1] == 0).all()
    for name in ("infom", "infoe", "infoc"):
        assert found[name] == pytest.approx(without[name], abs=1e-9)

    nothing = finite(np.zeros((50, 2), int), latents[:50], discrete)
    assert (nothing["infom"], nothing["infoe"], nothing["infoc"]) == (0, 0, 0)

    ids = np.arange(40)  # as many classes as samples
    few = finite(np.stack([ids, ids % 2], axis=1), latents[:40], discrete)
    assert bool(few["nmi"][0].max() > 0) is discrete
    finite(sources[:1], latents[:1], discrete)
    finite(sources[:2], latents[:2], discrete)

    alone = finite(sources[:, :1], latents[:, :1], discrete)
    assert alone["infom"] == alone["infoc"] == 1


def test_what_does_not_fit_is_refused():
    sources, latents = drawn(20)
    for wrong in (
        (sources[:10], latents),
        (sources[:, 0], latents),
        (sources[:0], latents[:0]),
        (sources, latents[:, :0]),
    ):
        with pytest.raises(ZooError, match="of the same samples are needed"):
            infomec(*wrong)
    with pytest.raises(ZooError, match="not finite"):
        infomec(sources, np.full(latents.shape, np.nan), discrete=False)


def test_strings_are_sources_too():
    sources, latents = drawn(200)
    names = np.array(["cross", "disc", "heart", "square", "star"])[sources]
    assert infomec(names, latents)["infom"] == infomec(sources, latents)["infom"]


def test_the_metric_alone_needs_no_torch():
    code = (
        "import sys, numpy as np\nfrom zoo.evaluation import infomec\n"
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
