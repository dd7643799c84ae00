"""The search for unit vectors with a small largest |cos|: a smooth maximum of |cos| is minimised over orbits of a group.

With vectors that are turns of a few generators, their cosines are correlations, which a transform gives at a fraction of the
work and memory; what is reached is the same. Two groups are known here: cyclic shifts, whose transform is Fourier's, from
random generators; and the sign changes of eight characters, whose transform is a product with an 8 × 8 matrix. The latter
begin with lines of a Kerdock set in the first dimensions and little in the others: the order of that start outlasts the
search, which ends lower for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.core.lazy import lazy
from zoo.families.equiangular import exact_bases

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch")

Progress = Callable[[int, int, float], object]
"""Called now and then with the steps done, all steps, and the best coherence so far."""

CELLS = 1 << 23  # cosines in memory at a time
WORK = 2e11  # multiplications that one search may cost
RESTARTS, SMALL = 8, 1 << 10  # of searches over so few cosines the best of several is taken
STEPS, LEAST = 3000, 300  # of a search, and where that is too much work
SHARP, NOUGHT = 20, -80  # exponents: where cosh is its rising half, and where numbers are as good as 0 and not yet slow
SIGNS = 8  # characters
FORMS = 7  # with fewer of them the start is no better than a random one
LONGER = 4  # times the steps for a search that begins with lines, whose steps are the cheapest
EARLIER = {2: 2}  # what LONGER was, by the version of `bases`
OUTSIDE = 0.15  # of the squared length of a vector that begins as a Kerdock line is in the other dimensions
NOISE = 0.02  # of a component there, to break the symmetry


@dataclass(frozen=True)
class _Stage:
    """Steps of Adam while the sharpness of the maximum goes from the first to the last value, in units of 1/bound."""

    sharpness: tuple[float, float]
    rate: float
    decay: int
    share: float


FROM_RANDOM = (_Stage((1, 60), 0.1, 1, 0.65), _Stage((50, 20_000), 5e-3, 2, 0.35))
FROM_LINES = (_Stage((5, 250), 0.057, 1, 0.8), _Stage((250, 20_000), 3.4e-3, 2, 0.2))


@dataclass(frozen=True)
class _Plan:
    """One search: how many elements its group has, whether they are shifts, and its steps."""

    order: int
    steps: int
    shifts: bool = True


def search(
    count: int,
    dim: int,
    bound: float,
    seed: int,
    alpha: float,
    device: str | torch.device,
    progress: Progress,
    version: int | None = None,
) -> torch.Tensor:
    """The best generators (m, channels, g) of the searches planned; those that are not of shifts are written out, with g = 1."""
    plans = planned(count, dim, version)
    total, before = sum(plan.steps for plan in plans), 0
    draw = torch.Generator().manual_seed(seed)
    best, found, shifts = 2.0, torch.empty(0), True
    for plan in plans:
        state = _start(count, dim, plan, draw).to(device)
        signs = None if plan.shifts else exact_bases.characters(plan.order).to(device)
        for stage in FROM_RANDOM if plan.shifts else FROM_LINES:
            steps = round(plan.steps * stage.share)

            def told(step: int, reached: float, before: int = before, least: float = best) -> None:
                progress(before + step, total, min(least, reached))

            reached, state = _anneal(state, bound, stage, steps, alpha, told, signs)
            before += steps
            if reached < best:
                best, found, shifts = reached, state, plan.shifts
            if best <= alpha:
                break
            state = state * dim**0.5
        if best <= alpha:
            break
    return found if shifts else _written_out(found)[:count]


def planned(count: int, dim: int, version: int | None = None) -> list[_Plan]:
    """With the longest orbits; and from lines of a Kerdock set where there is one, or else with the shortest orbits whose work is
    bearable, since shorter orbits leave more freedom and reach a little less."""
    if math.ceil(count / dim) ** 2 * dim <= SMALL:
        return [_Plan(dim, STEPS)] * RESTARTS
    first = _Plan(dim, max(LEAST, min(STEPS, int(WORK / work(count, dim, dim)))))
    inside = exact_bases.kerdock_dim(dim)
    fits = inside is not None and dim <= 2 * inside and FORMS * inside <= count <= inside * inside // 2
    longer = EARLIER.get(version or 0, LONGER)
    if fits and work(count, dim, SIGNS) * longer * STEPS <= WORK:
        return [first, _Plan(SIGNS, longer * STEPS, shifts=False)]
    shorter = next((g for g in range(8, dim) if dim % g == 0 and work(count, dim, g) * STEPS <= WORK), None)
    return [first] if shorter is None else [first, _Plan(shorter, STEPS)]


def work(count: int, dim: int, g: int) -> float:
    """Multiplications of one step, about: transforms, products by frequency, the way back."""
    m, channels = math.ceil(count / g), dim // g
    return 1.5 * m * m * g * (channels + 4 * math.log2(g + 1))


def _start(count: int, dim: int, plan: _Plan, draw: torch.Generator) -> torch.Tensor:
    """(m, channels, g), about 1 a component."""
    m, channels, g = math.ceil(count / plan.order), dim // plan.order, plan.order
    inside = exact_bases.kerdock_dim(dim)
    if plan.shifts or inside is None:
        return torch.randn(m, channels, g, generator=draw)
    # the lines of one form are all its sign changes: those by characters of the lower bits are the orbits
    high, forms = inside // g, math.ceil(count / inside)
    turned = exact_bases.characters(high)[None, :, :, None]
    first = exact_bases.kerdock_forms(inside)[:forms].view(forms, 1, high, g) * turned
    # outside, each form has components of its own, where its lines, orthogonal inside, may approach each other
    beyond = (channels - high) * g
    owner = (torch.randperm(beyond, generator=draw) * forms // max(1, beyond)).view(1, -1, g)
    rest = torch.randn(forms, channels - high, g, generator=draw) * (owner == torch.arange(forms)[:, None, None])
    rest *= (OUTSIDE * dim) ** 0.5 / rest.flatten(1).norm(dim=1).clamp(min=1e-6)[:, None, None]
    second = rest[:, None] * turned[:, :, : channels - high]
    state = torch.cat([first * ((1 - OUTSIDE) * dim / inside) ** 0.5, second], dim=2).flatten(0, 1)[:m]
    return state + NOISE * torch.randn(state.shape, generator=draw)


def _written_out(generators: torch.Tensor) -> torch.Tensor:
    """(m·g, channels·g, 1) of generators (m, channels, g) under sign changes."""
    m, channels, g = generators.shape
    signs = exact_bases.characters(g).to(generators.device)
    return (generators[:, None] * signs[None, :, None]).reshape(m * g, channels * g, 1)


def _anneal(
    start: torch.Tensor,
    bound: float,
    stage: _Stage,
    steps: int,
    alpha: float,
    told: Callable[[int, float], None],
    signs: torch.Tensor | None = None,
) -> tuple[float, torch.Tensor]:
    """The least coherence met, and the unit generators (m, channels, g) that have it."""
    state = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([state], lr=stage.rate, betas=(0.9, 0.99))
    best, kept, before = 2.0, start, None
    low, high = stage.sharpness
    for step in range(steps):
        sharp = low * (high / low) ** (step / steps) / bound
        for group in optimiser.param_groups:
            group["lr"] = stage.rate * ((1 - step / steps) ** stage.decay + 1e-3)
        optimiser.zero_grad(set_to_none=True)
        unit = state / state.flatten(1).norm(dim=1)[:, None, None]
        reached = _descend(unit, sharp, before, signs)
        before = reached
        if reached < best:
            best, kept = reached, unit.detach().clone()
        if step % 100 == 0 or best <= alpha:
            told(step, best)
            if best <= alpha:
                break
        optimiser.step()
    return best, kept


def _descend(unit: torch.Tensor, sharp: float, before: float | None, signs: torch.Tensor | None = None) -> float:
    """Leave in the graph of `unit` the gradient of the logarithm of Σ cosh(sharp·cos); returns the largest |cos|. While it is
    not yet sharp, a cosine near 0 is left alone, which |cos| in an exponent would not do.

    Rows of generators go in blocks, so that only CELLS cosines are there at a time. What the exponentials sum to is known
    after the last block alone, so they are taken relative to the maximum of the step before, and the sum divides in the end.
    """
    m, _, g = unit.shape
    leaf = unit.detach().requires_grad_()
    block = max(1, CELLS // (m * g))
    largest, total = 0.0, 0.0
    for start in range(0, m, block):
        stop = min(start + block, m)
        if signs is None:
            spectra = torch.fft.rfft(leaf[start:], dim=2)
            products = torch.einsum("acf,bcf->abf", spectra[: stop - start], spectra.conj())
            cosines = torch.fft.irfft(products, n=g, dim=2).abs()
        else:
            cosines = (torch.einsum("acf,bcf->abf", leaf[start:stop], leaf[start:]) @ signs).abs()
        own = torch.arange(stop - start, device=unit.device)
        with torch.no_grad():
            cosines[own, own, 0] = 0.0  # each with itself
            top = float(cosines.max())
            largest = max(largest, top)
            reference = before if before is not None else largest
            rising = ((cosines - reference) * sharp).clamp_(NOUGHT, 30).exp_()
            falling = ((-cosines - reference) * sharp).clamp_(min=NOUGHT).exp_() if reference * sharp < SHARP else None
            for part in (rising,) if falling is None else (rising, falling):
                part[own, own, 0] = 0.0
                part[:, stop - start :] *= 2  # stands for the pair the other way round, too
                total += float(part.sum())
            rising -= 0 if falling is None else falling
        if before is None:
            before = reference
        (rising * cosines).sum().backward()
    assert leaf.grad is not None  # there is at least one block
    unit.backward(leaf.grad / max(total, 1e-30))
    return largest
