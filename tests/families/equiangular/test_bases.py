"""Bases against closed forms, their own rows, and bounds."""

from __future__ import annotations

import math

import pytest
import torch

from zoo.core.errors import ZooError
from zoo.families.equiangular import basis_search, basis_vectors, exact_bases
from zoo.families.equiangular.spec import compute_welch_bound


def compute_gram(basis: basis_vectors.Basis) -> torch.Tensor:
    rows = basis.get_rows().double()
    return rows @ rows.T


def draw_unit_generators(*shape: int) -> torch.Tensor:
    generators = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return generators / generators.flatten(1).norm(dim=1)[:, None, None]


@pytest.fixture
def short_search(monkeypatch):
    monkeypatch.setattr(basis_search, "STEPS", 150)
    monkeypatch.setattr(basis_search, "MIN_STEPS", 150)
    monkeypatch.setattr(basis_search, "RESTARTS", 2)


# -- closed forms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "dim"), [(1, 1), (3, 8), (8, 8)])
def test_at_most_dim_vectors_are_exactly_orthonormal(count, dim):
    assert torch.equal(compute_gram(basis_vectors.make(count, dim)), torch.eye(count, dtype=torch.float64))
    assert compute_welch_bound(count, dim) == 0


@pytest.mark.parametrize("dim", [1, 2, 7, 100])
def test_dim_plus_one_vectors_are_a_simplex(dim):
    gram = compute_gram(basis_vectors.make(dim + 1, dim))
    off_diagonal = gram[~torch.eye(dim + 1, dtype=torch.bool)]
    assert torch.allclose(off_diagonal, torch.full_like(off_diagonal, -1 / dim), atol=1e-6)
    assert math.isclose(compute_welch_bound(dim + 1, dim), 1 / dim)


@pytest.mark.parametrize("q", [5, 13, 17, 29, 101])
def test_paley_lines_all_have_the_angle_of_the_welch_bound(q):
    """The theorem checks the arithmetic in GF(q²): 1/√q is the Welch bound of q + 1 vectors."""
    basis = basis_vectors.make(q + 1, (q + 1) // 2)
    off_diagonal = compute_gram(basis)[~torch.eye(q + 1, dtype=torch.bool)].abs()
    assert basis.method == "paley"
    assert torch.allclose(off_diagonal, torch.full_like(off_diagonal, q**-0.5), atol=2e-6)
    assert math.isclose(compute_welch_bound(q + 1, (q + 1) // 2), q**-0.5)


def test_a_thousand_vectors_in_512_dimensions_need_no_search(monkeypatch):
    monkeypatch.setattr(basis_search, "search", lambda *_: pytest.fail("a search was started"))
    basis = basis_vectors.make(1000, 512)
    assert basis.compute_coherence() < 1.02 * compute_welch_bound(1000, 512)
    assert basis_vectors.estimate_cost(1000, 512) == 0


@pytest.mark.parametrize("dim", [16, 64])
def test_kerdock_lines_are_orthogonal_or_meet_at_one_angle(dim):
    """The theorem checks the arithmetic in GF(2^n): dim / 2 + 1 orthonormal bases, |cos| = 1/√dim between them."""
    count = dim * (dim // 2 + 1)
    basis = basis_vectors.make(count, dim)
    blocks = compute_gram(basis).view(dim // 2 + 1, dim, dim // 2 + 1, dim).permute(0, 2, 1, 3)
    is_same_basis = torch.eye(dim // 2 + 1, dtype=torch.bool)
    identities = torch.eye(dim, dtype=torch.float64).expand(dim // 2 + 1, -1, -1)
    assert basis.method == "kerdock"
    assert torch.allclose(blocks[is_same_basis], identities, atol=1e-6)
    assert torch.allclose(blocks[~is_same_basis].abs(), torch.full((), dim**-0.5, dtype=torch.float64), atol=1e-6)
    assert basis.compute_coherence() == pytest.approx(compute_welch_bound(count, dim)), "no other lines could be better"


def test_a_closed_form_replaces_a_search_that_ends_above_it(short_search):
    basis = basis_vectors.make(144, 17)
    assert (basis.method, basis.compute_coherence()) == ("kerdock", pytest.approx(0.25))
    assert basis_vectors.make(145, 17).method == "orbits", "there are only 144 Kerdock lines in 16 dimensions"


def test_more_vectors_than_pairs_of_dimensions_have_rankins_bound():
    assert compute_welch_bound(100, 3) == pytest.approx(3**-0.5)


# -- search ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "dim"), [(40, 12), (100, 32), (23, 6)])
def test_a_search_ends_far_below_random_vectors_and_above_the_bound(count, dim, short_search):
    basis = basis_vectors.make(count, dim, seed=1)
    random = torch.nn.functional.normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(0)), dim=1)
    random_coherence = (random @ random.T).fill_diagonal_(0).abs().max()
    assert basis.method == "orbits"
    assert compute_welch_bound(count, dim) <= basis.compute_coherence() + 1e-7 < 0.8 * random_coherence
    assert torch.allclose(basis.get_rows().norm(dim=1), torch.ones(count), atol=1e-6)


@pytest.mark.parametrize(("count", "dim"), [(40, 12), (100, 32), (23, 6)])
def test_the_coherence_is_the_largest_cosine_of_the_rows(count, dim, short_search, monkeypatch):
    basis = basis_vectors.make(count, dim, seed=1)
    gram = compute_gram(basis).fill_diagonal_(0).abs()
    for max_cells in (1, 1 << 23):
        monkeypatch.setattr(basis_vectors, "MAX_CELLS", max_cells)
        assert math.isclose(basis.compute_coherence(), float(gram.max()), abs_tol=1e-6)
        assert math.isclose(basis.compute_coherence(17), float(gram[:17, :17].max()), abs_tol=1e-6)
    assert basis.compute_coherence(1) == 0


def test_the_seed_decides_every_bit_and_the_digest(short_search):
    first, same_seed, other_seed = (basis_vectors.make(40, 12, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.generators, same_seed.generators)
    assert first.sha256 == same_seed.sha256 != other_seed.sha256


def test_cosines_are_the_products_with_the_rows(short_search):
    basis = basis_vectors.make(100, 32)
    assert basis.generators.shape[2] >= 16, "the correlation theorem is used"
    vectors = torch.nn.functional.normalize(torch.randn(5, 32), dim=1)
    for count in (1, 31, 33, 97, 100):
        assert torch.allclose(basis.compute_cosines(vectors, count), vectors @ basis.get_rows(0, count).T, atol=1e-5)


def test_rows_are_the_same_in_parts_and_in_blocks(short_search, monkeypatch):
    basis = basis_vectors.make(100, 32)
    whole = basis.get_rows()
    monkeypatch.setattr(basis_vectors, "MAX_CELLS", 1)
    assert torch.equal(basis.get_rows(30, 70), whole[30:70])


def test_an_alpha_below_the_bound_is_refused_before_any_work(monkeypatch):
    monkeypatch.setattr(basis_search, "search", lambda *_: pytest.fail("a search was started"))
    with pytest.raises(ZooError, match="Welch bound is 0.1005"):
        basis_vectors.make(100, 50, alpha=0.1)
    with pytest.raises(ZooError, match="at least 1"):
        basis_vectors.make(0, 3)


def test_a_search_stops_at_alpha():
    reports = []
    basis = basis_vectors.make(40, 12, alpha=0.5, progress=lambda done, total, best: reports.append((done, best)))
    assert basis.compute_coherence() <= 0.5
    assert reports[-1][0] < basis_search.STEPS
    assert reports[-1][1] <= 0.5


def test_the_gradient_is_that_of_a_smooth_maximum_in_blocks_of_any_size(monkeypatch):
    unit = draw_unit_generators(5, 2, 4).requires_grad_()
    rows = torch.stack([unit[i].roll(shift, 1).flatten() for i in range(5) for shift in range(4)])
    cosines = (rows @ rows.T).abs()[~torch.eye(20, dtype=torch.bool)]
    (expected,) = torch.autograd.grad(torch.logsumexp(torch.cat([9 * cosines, -9 * cosines]), 0) / 9, unit)
    for max_cells in (1, 40, 10**6):
        monkeypatch.setattr(basis_search, "MAX_CELLS", max_cells)
        leaf = unit.detach().clone().requires_grad_()
        largest = basis_search._backpropagate_maximum(leaf, 9.0, 0.5)
        assert math.isclose(largest, float(cosines.detach().max()), abs_tol=1e-12)
        assert torch.allclose(leaf.grad, expected, atol=1e-9)


def test_above_the_sinh_limit_the_gradient_is_the_same_without_the_falling_exponential(monkeypatch):
    assert basis_search.SINH_LIMIT < 50.0 * 0.5, "the limit applies to this sharpness"
    gradients = []
    for limit in (basis_search.SINH_LIMIT, math.inf):
        monkeypatch.setattr(basis_search, "SINH_LIMIT", limit)
        leaf = draw_unit_generators(5, 2, 4).requires_grad_()
        basis_search._backpropagate_maximum(leaf, 50.0, 0.5)
        gradients.append(leaf.grad)
    assert torch.allclose(*gradients, atol=1e-8)


def test_written_out_sign_changes_are_the_rows_whose_cosines_the_search_saw():
    unit = draw_unit_generators(5, 3, 8).float().requires_grad_()
    rows = basis_search._write_out_orbits(unit.detach())[:, :, 0]
    assert rows.shape == (40, 24)
    largest = (rows @ rows.T).fill_diagonal_(0).abs().max()
    signs = exact_bases.build_characters(8)
    assert basis_search._backpropagate_maximum(unit, 9.0, 0.5, signs) == pytest.approx(float(largest), abs=1e-6)


def test_a_search_from_kerdock_lines_ends_far_lower_than_one_from_random_vectors(monkeypatch):
    """In 80 dimensions, 64 of which have a Kerdock set."""
    for name, value in (("STEPS", 200), ("MIN_STEPS", 200), ("LINE_STEPS_FACTOR", 1)):
        monkeypatch.setattr(basis_search, name, value)
    assert [plan.uses_shifts for plan in basis_search.plan_searches(500, 80)] == [True, False]
    from_lines = basis_vectors.make(500, 80)
    assert tuple(from_lines.generators.shape) == (500, 80, 1)
    monkeypatch.setattr(exact_bases, "find_kerdock_dim", lambda dim: None)
    from_random = basis_vectors.make(500, 80)
    assert from_random.generators.shape[2] > 1
    assert from_lines.compute_coherence() < 0.9 * from_random.compute_coherence()


def test_a_seed_of_an_earlier_version_gives_the_basis_of_that_version(monkeypatch):
    settings = {"STEPS": 100, "MIN_STEPS": 100, "EARLIER_LINE_STEPS_FACTORS": {2: 1}, "LINE_STEPS_FACTOR": 3}
    for name, value in settings.items():
        monkeypatch.setattr(basis_search, name, value)
    current, earlier = basis_vectors.make(500, 80), basis_vectors.make(500, 80, version=2)
    assert (current.version, earlier.version) == (basis_vectors.VERSION, 2)
    monkeypatch.setattr(basis_search, "LINE_STEPS_FACTOR", 1)
    assert torch.equal(earlier.generators, basis_vectors.make(500, 80).generators)
    assert not torch.equal(earlier.generators, current.generators)
