"""Bases against closed forms, their own rows, and the bounds they are held to."""

from __future__ import annotations

import math

import pytest
import torch

from zoo.core.errors import ZooError
from zoo.families.equiangular import basis_search, basis_vectors, exact_bases


def gram(basis: basis_vectors.Basis) -> torch.Tensor:
    rows = basis.rows().double()
    return rows @ rows.T


@pytest.mark.parametrize(("count", "dim"), [(1, 1), (3, 8), (8, 8)])
def test_as_many_dimensions_as_vectors_are_orthonormal_to_the_last_bit(count, dim):
    assert torch.equal(gram(basis_vectors.make(count, dim)), torch.eye(count, dtype=torch.float64))
    assert basis_vectors.welch(count, dim) == 0


@pytest.mark.parametrize("dim", [1, 2, 7, 100])
def test_one_vector_more_is_the_simplex(dim):
    found = gram(basis_vectors.make(dim + 1, dim))
    off = found[~torch.eye(dim + 1, dtype=torch.bool)]
    assert torch.allclose(off, torch.full_like(off, -1 / dim), atol=1e-6)
    assert math.isclose(basis_vectors.welch(dim + 1, dim), 1 / dim)


@pytest.mark.parametrize("q", [5, 13, 17, 29, 101])
def test_conference_lines_have_all_the_same_angle_which_is_welchs(q):
    """A lemma of the theory, and an oracle of the arithmetic in GF(q²): 1/√q is Welch's bound of q + 1 vectors."""
    basis = basis_vectors.make(q + 1, (q + 1) // 2)
    off = gram(basis)[~torch.eye(q + 1, dtype=torch.bool)].abs()
    assert basis.method == "paley"
    assert torch.allclose(off, torch.full_like(off, q**-0.5), atol=2e-6)
    assert math.isclose(basis_vectors.welch(q + 1, (q + 1) // 2), q**-0.5)


def test_a_thousand_in_512_dimensions_are_near_the_bound_at_once():
    basis = basis_vectors.make(1000, 512)
    assert basis.coherence() < 1.02 * basis_vectors.welch(1000, 512)


@pytest.fixture
def fast(monkeypatch):
    monkeypatch.setattr(basis_search, "STEPS", 150)
    monkeypatch.setattr(basis_search, "LEAST", 150)
    monkeypatch.setattr(basis_search, "RESTARTS", 2)


@pytest.mark.parametrize("dim", [16, 64])
def test_kerdock_lines_are_orthogonal_or_meet_at_one_angle(dim):
    """The theorem, and an oracle of the arithmetic in GF(2^n): dim / 2 + 1 orthonormal bases, |cos| = 1/√dim between them."""
    count = dim * (dim // 2 + 1)
    basis = basis_vectors.make(count, dim)
    blocks = gram(basis).view(dim // 2 + 1, dim, dim // 2 + 1, dim).permute(0, 2, 1, 3)
    same = torch.eye(dim // 2 + 1, dtype=torch.bool)
    assert basis.method == "kerdock"
    assert torch.allclose(blocks[same], torch.eye(dim, dtype=torch.float64).expand(dim // 2 + 1, -1, -1), atol=1e-6)
    assert torch.allclose(blocks[~same].abs(), torch.full((), dim**-0.5, dtype=torch.float64), atol=1e-6)
    assert basis.coherence() == pytest.approx(
        basis_vectors.welch(count, dim)
    )  # no more lines than these meet so little


def test_a_search_that_ends_above_lines_known_to_be_lower_gives_those(fast):
    basis = basis_vectors.make(144, 17)
    assert (basis.method, basis.coherence()) == ("kerdock", pytest.approx(0.25))
    assert basis_vectors.make(145, 17).method == "orbits"  # one more than there are


def test_sign_changes_written_out_are_the_rows_whose_cosines_the_search_saw():
    state = torch.randn(5, 3, 8)
    unit = (state / state.flatten(1).norm(dim=1)[:, None, None]).requires_grad_()
    rows = basis_search._written_out(unit.detach())[:, :, 0]
    assert rows.shape == (40, 24)
    largest = (rows @ rows.T).fill_diagonal_(0).abs().max()
    assert basis_search._descend(unit, 9.0, 0.5, exact_bases.characters(8)) == pytest.approx(float(largest), abs=1e-6)


def test_beginning_with_kerdock_lines_ends_far_lower_than_beginning_anywhere(monkeypatch):
    """In 80 dimensions, of which 64 have a Kerdock set."""
    for name, value in (("STEPS", 200), ("LEAST", 200), ("LONGER", 1)):
        monkeypatch.setattr(basis_search, name, value)
    assert [plan.shifts for plan in basis_search.planned(500, 80)] == [True, False]
    begun = basis_vectors.make(500, 80)
    assert tuple(begun.generators.shape) == (500, 80, 1)
    monkeypatch.setattr(exact_bases, "kerdock_dim", lambda dim: None)
    anywhere = basis_vectors.make(500, 80)
    assert anywhere.generators.shape[2] > 1
    assert begun.coherence() < 0.9 * anywhere.coherence()


def test_a_seed_of_an_earlier_version_gives_the_basis_that_it_gave_then(monkeypatch):
    for name, value in (("STEPS", 100), ("LEAST", 100), ("EARLIER", {2: 1}), ("LONGER", 3)):
        monkeypatch.setattr(basis_search, name, value)
    now, then = basis_vectors.make(500, 80), basis_vectors.make(500, 80, version=2)
    assert (now.version, then.version) == (basis_vectors.VERSION, 2)
    monkeypatch.setattr(basis_search, "LONGER", 1)
    assert torch.equal(then.generators, basis_vectors.make(500, 80).generators)
    assert not torch.equal(then.generators, now.generators)


@pytest.mark.parametrize(("count", "dim"), [(40, 12), (100, 32), (23, 6)])
def test_a_search_ends_far_below_random_vectors_and_above_the_bound(count, dim, fast):
    basis = basis_vectors.make(count, dim, seed=1)
    random = torch.nn.functional.normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(0)), dim=1)
    chance = (random @ random.T).fill_diagonal_(0).abs().max()
    assert basis.method == "orbits"
    assert basis_vectors.welch(count, dim) <= basis.coherence() + 1e-7 < 0.8 * chance
    assert torch.allclose(basis.rows().norm(dim=1), torch.ones(count), atol=1e-6)
    assert math.isclose(basis.coherence(), float(gram(basis).fill_diagonal_(0).abs().max()), abs_tol=1e-6)


def test_the_seed_decides_every_bit_and_the_digest_tells_one_from_another(fast):
    first, again, other = (basis_vectors.make(40, 12, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.generators, again.generators)
    assert first.sha256 == again.sha256 != other.sha256


def test_correlations_are_the_cosines_with_the_rows(fast):
    basis = basis_vectors.make(100, 32)
    assert basis.generators.shape[2] >= 16
    vectors = torch.nn.functional.normalize(torch.randn(5, 32), dim=1)
    for count in (1, 31, 33, 97, 100):
        assert torch.allclose(basis.cosines(vectors, count), vectors @ basis.rows(0, count).T, atol=1e-5)
    assert torch.equal(basis.rows(30, 70), basis.rows()[30:70])


def test_an_angle_that_cannot_be_is_refused_before_any_work_and_one_that_can_ends_it(monkeypatch):
    monkeypatch.setattr(basis_search, "search", lambda *_: pytest.fail("there was work"))
    with pytest.raises(ZooError, match="Welch bound is 0.1005"):
        basis_vectors.make(100, 50, alpha=0.1)
    with pytest.raises(ZooError, match="at least 1"):
        basis_vectors.make(0, 3)
    monkeypatch.undo()
    seen = []
    basis = basis_vectors.make(40, 12, alpha=0.5, progress=lambda done, total, best: seen.append((done, best)))
    assert basis.coherence() <= 0.5
    assert seen[-1][0] < basis_search.STEPS
    assert seen[-1][1] <= 0.5


def test_blocks_of_rows_give_the_gradient_of_all_at_once(monkeypatch):
    state = torch.randn(5, 2, 4, dtype=torch.float64)
    unit = (state / state.flatten(1).norm(dim=1)[:, None, None]).requires_grad_()
    rows = torch.stack([unit[i].roll(s, 1).flatten() for i in range(5) for s in range(4)])
    cosines = (rows @ rows.T).abs()
    off = cosines[~torch.eye(20, dtype=torch.bool)]
    (expected,) = torch.autograd.grad(torch.logsumexp(torch.cat([9 * off, -9 * off]), 0) / 9, unit)
    for cells in (1, 40, 10**6):
        monkeypatch.setattr(basis_search, "CELLS", cells)
        leaf = unit.detach().clone().requires_grad_()
        assert math.isclose(basis_search._descend(leaf, 9.0, 0.5), float(off.detach().max()), abs_tol=1e-12)
        assert torch.allclose(leaf.grad, expected, atol=1e-9)


def test_more_vectors_than_pairs_of_dimensions_have_rankins_bound():
    assert basis_vectors.welch(100, 3) == pytest.approx(3**-0.5)
