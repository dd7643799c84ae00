"""The search for unit vectors with a small largest |cos|: gradient descent on a smooth maximum of |cos|.

The vectors are the orbits of a few generators under a group. Their cosines are then correlations, which a transform computes
with a fraction of the work and memory, and the search reaches the same maximum. There are two groups:

- Cyclic shifts. Their transform is Fourier's. The search begins with random generators.
- The sign changes of eight characters. Their transform is a product with an 8 × 8 matrix. The search begins with lines of a
  Kerdock set in the first dimensions and small components in the others. The search keeps the order of this start, and ends
  lower because of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from zoo.families.equiangular import exact_bases

Progress = Callable[[int, int, float], object]
"""Called from time to time with the steps done, the number of all steps, and the best coherence so far."""

MAX_CELLS = 1 << 23  # cosines in memory at a time
MAX_WORK = 2e11  # multiplications that one search may cost
FEW_COSINES, RESTARTS = 1 << 10, 8  # below this number of cosines, the best of several searches is taken
STEPS, MIN_STEPS = 3000, 300  # steps of a search, and the fewest if STEPS would exceed MAX_WORK
LINE_STEPS_FACTOR = (
    4  # a search that begins with lines takes this many times the steps, because its steps are the cheapest
)
EARLIER_LINE_STEPS_FACTORS = {2: 2}  # LINE_STEPS_FACTOR of earlier values of `basis_vectors.VERSION`
CHARACTERS = 8
MIN_FORMS = 7  # with fewer forms, Kerdock lines are not a better start than random vectors
OUTSIDE_SHARE = 0.15  # share of a vector's squared length outside the dimensions of its Kerdock line, at the start
NOISE = 0.02  # size of a random component that breaks the symmetry of the start
SINH_LIMIT = 20  # above this exponent, sinh and cosh equal half their rising exponential
MIN_EXPONENT = -80  # exp of this is as good as 0, but not yet a slow denormal number


@dataclass(frozen=True)
class _Stage:
    """A part of a search by Adam.

    Attributes:
        sharpness: sharpness of the smooth maximum at the first and at the last step, in units of 1/bound.
        learning_rate: learning rate at the first step.
        decay: the learning rate falls with this power of the remaining share of steps.
        share: share of the search's steps.
    """

    sharpness: tuple[float, float]
    learning_rate: float
    decay: int
    share: float


STAGES_FROM_RANDOM = (_Stage((1, 60), 0.1, 1, 0.65), _Stage((50, 20_000), 5e-3, 2, 0.35))
STAGES_FROM_LINES = (_Stage((5, 250), 0.057, 1, 0.8), _Stage((250, 20_000), 3.4e-3, 2, 0.2))


@dataclass(frozen=True)
class SearchPlan:
    """One search: the order of its group, its number of steps, and whether the group consists of shifts."""

    order: int
    steps: int
    uses_shifts: bool = True

    @property
    def stages(self) -> tuple[_Stage, ...]:
        return STAGES_FROM_RANDOM if self.uses_shifts else STAGES_FROM_LINES


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
    """Run all planned searches and return the best generators (m, channels, g) float32.

    The rows of a search over sign changes are written out, so that g = 1. The search stops at a coherence of at most `alpha`.
    """
    plans = plan_searches(count, dim, version)
    total_steps, earlier_steps = sum(plan.steps for plan in plans), 0
    generator = torch.Generator().manual_seed(seed)
    best, best_generators, best_plan = 2.0, torch.empty(0), plans[0]
    for plan in plans:
        state = _draw_start(count, dim, plan, generator).to(device)
        signs = None if plan.uses_shifts else exact_bases.build_characters(plan.order).to(device)
        for stage in plan.stages:
            steps = round(plan.steps * stage.share)

            def report(step: int, coherence: float, earlier_steps: int = earlier_steps, best: float = best) -> None:
                progress(earlier_steps + step, total_steps, min(best, coherence))

            coherence, state = _anneal(state, bound, stage, steps, alpha, report, signs)
            earlier_steps += steps
            if coherence < best:
                best, best_generators, best_plan = coherence, state, plan
            if best <= alpha:
                break
            state = state * dim**0.5
        if best <= alpha:
            break
    return best_generators if best_plan.uses_shifts else _write_out_orbits(best_generators)[:count]


def plan_searches(count: int, dim: int, version: int | None = None) -> list[SearchPlan]:
    """Choose the searches: one with the longest orbits, and a second one.

    The second search begins with lines of a Kerdock set if one fits. Otherwise it has the shortest orbits whose work is
    below MAX_WORK, because shorter orbits leave more freedom and reach a slightly lower coherence.
    """
    if math.ceil(count / dim) ** 2 * dim <= FEW_COSINES:
        return [SearchPlan(dim, STEPS)] * RESTARTS
    longest = SearchPlan(dim, max(MIN_STEPS, min(STEPS, int(MAX_WORK / estimate_work(count, dim, dim)))))
    kerdock_dim = exact_bases.find_kerdock_dim(dim)
    has_lines = (
        kerdock_dim is not None
        and dim <= 2 * kerdock_dim
        and MIN_FORMS * kerdock_dim <= count <= kerdock_dim * kerdock_dim // 2
    )
    line_steps = EARLIER_LINE_STEPS_FACTORS.get(version or 0, LINE_STEPS_FACTOR) * STEPS
    if has_lines and estimate_work(count, dim, CHARACTERS) * line_steps <= MAX_WORK:
        return [longest, SearchPlan(CHARACTERS, line_steps, uses_shifts=False)]
    for order in range(8, dim):
        if dim % order == 0 and estimate_work(count, dim, order) * STEPS <= MAX_WORK:
            return [longest, SearchPlan(order, STEPS)]
    return [longest]


def estimate_work(count: int, dim: int, order: int) -> float:
    """Estimate the multiplications of one step: transforms, products for each frequency, and the way back."""
    generators, channels = math.ceil(count / order), dim // order
    return 1.5 * generators * generators * order * (channels + 4 * math.log2(order + 1))


def _draw_start(count: int, dim: int, plan: SearchPlan, generator: torch.Generator) -> torch.Tensor:
    """Return the first state (m, channels, g), whose components have a size of about 1."""
    m, channels, g = math.ceil(count / plan.order), dim // plan.order, plan.order
    kerdock_dim = exact_bases.find_kerdock_dim(dim)
    if plan.uses_shifts or kerdock_dim is None:
        return torch.randn(m, channels, g, generator=generator)
    # The lines of one form are all its sign changes. Those by characters of the lower bits are the orbits.
    high, form_count = kerdock_dim // g, math.ceil(count / kerdock_dim)
    high_signs = exact_bases.build_characters(high)[None, :, :, None]
    forms = exact_bases.build_kerdock_forms(kerdock_dim)[:form_count]
    inside = forms.view(form_count, 1, high, g) * high_signs
    # Outside, each form has components of its own. Its lines, which are orthogonal inside, may approach each other there.
    outside_dim = (channels - high) * g
    owners = torch.randperm(outside_dim, generator=generator) * form_count // max(1, outside_dim)
    is_own = owners.view(1, -1, g) == torch.arange(form_count)[:, None, None]
    components = torch.randn(form_count, channels - high, g, generator=generator) * is_own
    components *= (OUTSIDE_SHARE * dim) ** 0.5 / components.flatten(1).norm(dim=1).clamp(min=1e-6)[:, None, None]
    outside = components[:, None] * high_signs[:, :, : channels - high]
    state = torch.cat([inside * ((1 - OUTSIDE_SHARE) * dim / kerdock_dim) ** 0.5, outside], dim=2).flatten(0, 1)[:m]
    return state + NOISE * torch.randn(state.shape, generator=generator)


def _write_out_orbits(generators: torch.Tensor) -> torch.Tensor:
    """Return all rows (m·g, channels·g, 1) of generators (m, channels, g) under sign changes."""
    m, channels, g = generators.shape
    signs = exact_bases.build_characters(g).to(generators.device)
    return (generators[:, None] * signs[None, :, None]).reshape(m * g, channels * g, 1)


def _anneal(
    start: torch.Tensor,
    bound: float,
    stage: _Stage,
    steps: int,
    alpha: float,
    report: Callable[[int, float], None],
    signs: torch.Tensor | None = None,
) -> tuple[float, torch.Tensor]:
    """Run one stage. Return the least coherence on the way, and the unit generators (m, channels, g) that have it."""
    state = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([state], lr=stage.learning_rate, betas=(0.9, 0.99))
    best, best_generators, previous = 2.0, start, None
    low, high = stage.sharpness
    for step in range(steps):
        sharpness = low * (high / low) ** (step / steps) / bound
        for group in optimiser.param_groups:
            group["lr"] = stage.learning_rate * ((1 - step / steps) ** stage.decay + 1e-3)
        optimiser.zero_grad(set_to_none=True)
        unit = state / state.flatten(1).norm(dim=1)[:, None, None]
        coherence = _backpropagate_maximum(unit, sharpness, previous, signs)
        previous = coherence
        if coherence < best:
            best, best_generators = coherence, unit.detach().clone()
        if step % 100 == 0 or best <= alpha:
            report(step, best)
            if best <= alpha:
                break
        optimiser.step()
    return best, best_generators


def _backpropagate_maximum(
    unit: torch.Tensor, sharpness: float, previous: float | None, signs: torch.Tensor | None = None
) -> float:
    """Backpropagate log Σ cosh(sharpness·cos) from `unit` (m, channels, g), and return the largest |cos|.

    At a low sharpness, cosh leaves a cosine near 0 alone, which an exponential of |cos| would not do.

    Blocks of generators are processed one after the other, so that at most MAX_CELLS cosines are in memory. The sum is known
    only after the last block. Therefore the exponentials are taken relative to `previous`, the maximum of the step before,
    and the gradient is divided by the sum at the end.
    """
    m, _, g = unit.shape
    leaf = unit.detach().requires_grad_()
    block_size = max(1, MAX_CELLS // (m * g))
    largest, total = 0.0, 0.0
    for start in range(0, m, block_size):
        stop = min(start + block_size, m)
        cosines = _correlate(leaf[start:], stop - start, signs).abs()
        diagonal = torch.arange(stop - start, device=unit.device)
        with torch.no_grad():
            cosines[diagonal, diagonal, 0] = 0.0  # the cosine of a row with itself
            largest = max(largest, float(cosines.max()))
            reference = previous if previous is not None else largest
            rising = ((cosines - reference) * sharpness).clamp_(MIN_EXPONENT, 30).exp_()
            falling = None
            if reference * sharpness < SINH_LIMIT:
                falling = ((-cosines - reference) * sharpness).clamp_(min=MIN_EXPONENT).exp_()
            for part in (rising,) if falling is None else (rising, falling):
                part[diagonal, diagonal, 0] = 0.0
                part[:, stop - start :] *= 2  # a pair of different blocks is computed once, and counts twice
                total += float(part.sum())
            rising -= 0 if falling is None else falling
        if previous is None:
            previous = reference
        torch.autograd.backward((rising * cosines).sum())
    assert leaf.grad is not None  # there is at least one block
    torch.autograd.backward(unit, leaf.grad / max(total, 1e-30))
    return largest


def _correlate(generators: torch.Tensor, count: int, signs: torch.Tensor | None) -> torch.Tensor:
    """Return the cosines (count, m, g) of the first `count` generators with the whole orbits of generators (m, channels, g)."""
    if signs is not None:
        cosines: torch.Tensor = torch.einsum("acf,bcf->abf", generators[:count], generators) @ signs
        return cosines
    spectra = torch.fft.rfft(generators, dim=2)
    products = torch.einsum("acf,bcf->abf", spectra[:count], spectra.conj())
    shifted: torch.Tensor = torch.fft.irfft(products, n=generators.shape[2], dim=2)
    return shifted
