"""Unit vectors that are as nearly orthogonal to one another as they can be: `count` of them in `dim` dimensions.

Source: Shen, Sun, Wei, "Equiangular Basis Vectors", arXiv 2303.11637, section 3, which descends a sum of hinges over |cos|.
Here exact cases are written down, and where q = 2d - 1 or less is a suitable prime, the lines of a conference matrix are
(Paley 1933; Lemmens and Seidel, "Equiangular lines", 1973). Otherwise a smooth maximum of |cos| is minimised over vectors
that are cyclic shifts of a few generators: their cosines are correlations, which Fourier transforms give at a fraction of
the work and memory, and the coherence that is reached is the same.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from zoo.errors import ZooError
from zoo.lazy import lazy

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch")

VERSION = 1  # of what a seed stands for: raised when the same seed would give other numbers
Progress = Callable[[int, int, float], object]
"""Called now and then with the steps done, all steps, and the best coherence so far."""

CELLS = 1 << 23  # cosines in memory at a time
WORK = 2e11  # multiplications that one search may cost
RESTARTS, SMALL = 8, 1 << 10  # of searches over so few cosines the best of several is taken
STEPS, LEAST = 3000, 300  # of a search, and where that is too much work
NEAR = 1.05  # a construction that comes this near to the bound is taken as it is


def welch(count: int, dim: int) -> float:
    """The least that the largest |cos| of `count` unit vectors can be: 0 up to `dim` of them, then Welch's bound, and beyond
    dim·(dim + 1)/2 vectors, where that cannot be reached, at least 1/√dim (Rankin)."""
    if count <= dim:
        return 0.0
    bound = math.sqrt((count - dim) / (dim * (count - 1)))
    return max(bound, dim**-0.5) if count > dim * (dim + 1) / 2 else bound


@dataclass(frozen=True)
class Basis:
    """Unit vectors, kept as generators.

    Attributes:
        generators: (m, channels, g) float32. Row i·g + s of the basis is generator i, each channel turned by s places; no
            arithmetic is needed for it, so the rows are bit-equal wherever the generators are.
        count, dim: rows, and components of a row; those beyond channels·g are zero.
        method: orthonormal, simplex, paley or orbits; seed: what the last one drew from.
    """

    generators: torch.Tensor
    count: int
    dim: int
    method: str
    seed: int
    version: int = VERSION

    @property
    def sha256(self) -> str:
        """Hex digest of the generators' bytes and of what they stand for."""
        shape = (self.version, self.method, self.count, self.dim, *self.generators.shape)
        digest = hashlib.sha256(repr(shape).encode())
        digest.update(self.generators.contiguous().cpu().numpy().astype("<f4").tobytes())
        return digest.hexdigest()

    def rows(self, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Rows `start` to `stop` (all of them by default) as (n, dim) float32."""
        stop = self.count if stop is None else min(stop, self.count)
        _, channels, g = self.generators.shape
        out = torch.zeros(max(0, stop - start), self.dim, device=self.generators.device)
        if g == 1:
            out[:, :channels] = self.generators[start:stop, :, 0]
            return out
        place = torch.arange(start, stop, device=out.device)
        turned = (torch.arange(g, device=out.device)[None] - (place % g)[:, None]) % g
        for first in range(0, len(place), max(1, CELLS // self.dim)):
            part = slice(first, first + max(1, CELLS // self.dim))
            picked = self.generators[place[part] // g]  # (n, channels, g)
            shifted = picked.gather(2, turned[part, None].expand(-1, channels, -1))
            out[part, : channels * g] = shifted.flatten(1)
        return out

    def to(self, device: torch.device) -> Basis:
        """The same basis on another device."""
        return self if self.generators.device == device else replace(self, generators=self.generators.to(device))

    @cached_property
    def _kept(self) -> dict[int, torch.Tensor]:
        return {}

    @cached_property
    def _spectra(self) -> torch.Tensor:
        return torch.fft.rfft(self.generators, dim=2).conj()

    def cosines(self, vectors: torch.Tensor, count: int) -> torch.Tensor:
        """(n, count) float32: vectors (n, dim) with each of the first `count` rows, without making the rows where they are
        shifts: by the correlation theorem."""
        _, channels, g = self.generators.shape
        used = -(-count // g)
        if g < 16 or used == 1:
            if count not in self._kept:
                self._kept[count] = self.rows(0, count)
            return vectors @ self._kept[count].T
        spectra = torch.fft.rfft(vectors[:, : channels * g].view(-1, channels, g), dim=2)
        products = torch.einsum("ncf,mcf->nmf", spectra, self._spectra[:used].to(vectors.device))
        return torch.fft.irfft(products, n=g, dim=2).flatten(1)[:, :count]

    def coherence(self, count: int | None = None) -> float:
        """The largest |cos| of two of the first `count` rows, in float64, a block at a time: 0 for a single one."""
        count = self.count if count is None else count
        g, most = self.generators.shape[2], 0.0
        whole, rest = divmod(count, g)
        spectra = torch.fft.rfft(self.generators[: whole + (rest > 0)].double(), dim=2)
        m = len(spectra)
        block = max(1, CELLS // (m * g))
        for start in range(0, m, block):
            own = spectra[start : start + block]
            cosines = torch.fft.irfft(torch.einsum("acf,bcf->abf", own, spectra.conj()), n=g, dim=2).abs_()
            here = torch.arange(len(own), device=cosines.device)
            cosines[here, here + start, 0] = 0
            if rest and start + len(own) == m:  # of the last generator only some turns are rows
                cosines[-1, -1, rest : g - rest + 1] = 0
            most = max(most, float(cosines.max()))
        return most


def cost(count: int, dim: int) -> float:
    """Multiplications that `make` takes at most, about; 0 for what is written down."""
    if count <= dim + 1 or _paley_prime(count, dim, NEAR * welch(count, dim)):
        return 0.0
    return sum(steps * _work(count, dim, g) for g, steps in _plan(count, dim))


def make(
    count: int,
    dim: int,
    *,
    seed: int = 42,
    alpha: float | None = None,
    device: str | torch.device = "cpu",
    progress: Progress = lambda done, total, best: None,
) -> Basis:
    """`count` unit vectors in `dim` dimensions.

    Args:
        alpha: stop as soon as no |cos| is above it; by default the search ends when its steps do.

    Raises ZooError for sizes below 1, and, before any work, for an `alpha` that no such vectors can have.
    """
    if count < 1 or dim < 1:
        raise ZooError(f"a basis of {count} vectors in {dim} dimensions: both must be at least 1")
    bound = welch(count, dim)
    if alpha is not None and alpha < bound * (1 - 1e-6):
        raise ZooError(
            f"no {count} unit vectors in {dim} dimensions have all |cos| ≤ {alpha:g}: the Welch bound is {bound:.4f}; "
            "ask for a larger alpha, fewer vectors or more dimensions"
        )
    if count <= dim:
        generator = torch.zeros(1, 1, dim)
        generator[0, 0, 0] = 1
        return Basis(generator.to(device), count, dim, "orthonormal", seed)
    if count == dim + 1:
        return Basis(_simplex(dim)[:, :, None].to(device), count, dim, "simplex", seed)
    if q := _paley_prime(count, dim, alpha if alpha is not None else NEAR * bound):
        return Basis(_paley(q).to(device), count, dim, "paley", seed)
    return Basis(_search(count, dim, seed, alpha or 0.0, device, progress), count, dim, "orbits", seed)


def _simplex(dim: int) -> torch.Tensor:
    """(dim + 1, dim): the corners of a regular simplex, every cosine -1/dim."""
    corners = torch.eye(dim, dtype=torch.float64) * math.sqrt(1 + 1 / dim)
    corners -= (math.sqrt(dim + 1) + 1) / dim**1.5
    return torch.cat([corners, torch.full((1, dim), dim**-0.5, dtype=torch.float64)]).float()


# -- conference matrices -----------------------------------------------------------------------------------------------


def _paley_prime(count: int, dim: int, alpha: float) -> int | None:
    """The largest prime q ≡ 1 mod 4 whose q + 1 lines in (q + 1)/2 dimensions are enough, fit, and have 1/√q ≤ alpha."""
    for q in range(2 * dim - 1, max(count - 2, math.ceil((1 - 1e-6) / alpha**2) - 1), -1):
        if q % 4 == 1 and all(q % n for n in range(3, math.isqrt(q) + 1, 2)):
            return q
    return None


def _paley(q: int) -> torch.Tensor:
    """Generators (2, 1, (q + 1)/2) of q + 1 equiangular lines, |cos| = 1/√q.

    The points of the projective line over GF(q) are two orbits of the elements of norm 1 in GF(q²), and the conference
    matrix χ(det(x, y)) over them is made of four circulant blocks. Its Gram matrix 1 + C/√q has one eigenvector at each
    frequency, which is what the generators hold there.
    """
    half = (q + 1) // 2
    square = {n * n % q for n in range(1, q)}
    free = next(n for n in range(2, q) if n not in square)  # GF(q²) is GF(q)[√free]

    def times(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
        return (a[0] * b[0] + free * a[1] * b[1]) % q, (a[0] * b[1] + a[1] * b[0]) % q

    def power(a: tuple[int, int], n: int) -> tuple[int, int]:
        out = (1, 0)
        while n:
            if n & 1:
                out = times(out, a)
            a, n = times(a, a), n >> 1
        return out

    factors = [n for n in range(2, q + 2) if (q + 1) % n == 0 and all(n % p for p in range(2, math.isqrt(n) + 1))]
    candidates = (power((a, 1), q - 1) for a in range(q))
    turn = next(z for z in candidates if all(power(z, (q + 1) // p) != (1, 0) for p in factors))  # of order q + 1
    other = next(
        (a, 1) for a in range(q) if (a * a - free) % q not in square
    )  # of the second orbit: its norm is no square

    def block(x: tuple[int, int], y: tuple[int, int]) -> torch.Tensor:
        row, z, back = [], y, (x[0], -x[1] % q)
        for _ in range(half):
            det = times(back, z)[1]
            row.append(0.0 if det == 0 else 1.0 if det in square else -1.0)
            z = times(z, turn)
        return torch.fft.fft(torch.tensor(row, dtype=torch.float64))

    one = (1, 0)
    first, cross, second = (
        1 + block(one, one).real / q**0.5,
        block(one, other) / q**0.5,
        1 + block(other, other).real / q**0.5,
    )
    # a rank-one Hermitian 2 × 2 matrix is the outer product of either row, scaled; the longer one loses no digits
    a, b = first.clamp(min=0), second.clamp(min=0)
    top = a >= b
    longer = torch.where(top, a, b).sqrt().clamp(min=1e-12)
    u = torch.where(top, longer + 0j, cross.conj() / longer)
    v = torch.where(top, cross / longer, longer + 0j)
    found = torch.fft.ifft(torch.stack([u, v])).real[:, None]
    return (found / found.flatten(1).norm(dim=1)[:, None, None]).float()


# -- the search --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stage:
    """Steps of Adam while the sharpness of the maximum goes from the first to the last value, in units of 1/bound."""

    sharpness: tuple[float, float]
    rate: float
    decay: int
    share: float


STAGES = (_Stage((1, 60), 0.1, 1, 0.65), _Stage((50, 20_000), 5e-3, 2, 0.35))


def _search(
    count: int, dim: int, seed: int, alpha: float, device: str | torch.device, progress: Progress
) -> torch.Tensor:
    """The best generators of a few searches: with the longest orbits, and with the shortest whose work is bearable, since shorter
    orbits leave more freedom and reach a little less."""
    plan = _plan(count, dim)
    total, before = sum(steps for _, steps in plan), 0
    draw = torch.Generator().manual_seed(seed)
    best, found = 2.0, torch.empty(0)
    for g, whole in plan:
        state = torch.randn(math.ceil(count / g), dim // g, g, generator=draw).to(device)
        for stage in STAGES:
            steps = round(whole * stage.share)

            def told(step: int, reached: float, before: int = before, least: float = best) -> None:
                progress(before + step, total, min(least, reached))

            reached, state = _anneal(state, welch(count, dim), stage, steps, alpha, told)
            before += steps
            if reached < best:
                best, found = reached, state
            if best <= alpha:
                return found
            state = state * dim**0.5
    return found


def _plan(count: int, dim: int) -> list[tuple[int, int]]:
    """The order g of the shifts in each search, and its steps."""
    if math.ceil(count / dim) ** 2 * dim <= SMALL:
        return [(dim, STEPS)] * RESTARTS
    shorter = next((g for g in range(8, dim) if dim % g == 0 and _work(count, dim, g) * STEPS <= WORK), None)
    first = (dim, max(LEAST, min(STEPS, int(WORK / _work(count, dim, dim)))))
    return [first] if shorter is None else [first, (shorter, STEPS)]


def _work(count: int, dim: int, g: int) -> float:
    """Multiplications of one step, about: Fourier transforms, products by frequency, the way back."""
    m, channels = math.ceil(count / g), dim // g
    return 1.5 * m * m * g * (channels + 4 * math.log2(g + 1))


def _anneal(
    start: torch.Tensor, bound: float, stage: _Stage, steps: int, alpha: float, told: Callable[[int, float], None]
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
        reached = _descend(unit, sharp, before)
        before = reached
        if reached < best:
            best, kept = reached, unit.detach().clone()
        if step % 100 == 0 or best <= alpha:
            told(step, best)
            if best <= alpha:
                break
        optimiser.step()
    return best, kept


def _descend(unit: torch.Tensor, sharp: float, before: float | None) -> float:
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
        spectra = torch.fft.rfft(leaf[start:], dim=2)
        products = torch.einsum("acf,bcf->abf", spectra[: stop - start], spectra.conj())
        cosines = torch.fft.irfft(products, n=g, dim=2).abs()
        own = torch.arange(stop - start, device=unit.device)
        with torch.no_grad():
            cosines[own, own, 0] = 0.0  # each with itself
            top = float(cosines.max())
            largest = max(largest, top)
            reference = before if before is not None else largest
            rising = ((cosines - reference) * sharp).clamp_(max=30).exp_()
            falling = ((-cosines - reference) * sharp).exp_()
            for part in (rising, falling):
                part[own, own, 0] = 0.0
                part[:, stop - start :] *= 2  # stands for the pair the other way round, too
                total += float(part.sum())
            rising -= falling
        if before is None:
            before = reference
        (rising * cosines).sum().backward()
    assert leaf.grad is not None  # there is at least one block
    unit.backward(leaf.grad / max(total, 1e-30))
    return largest
