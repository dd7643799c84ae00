"""Unit vectors that are as nearly orthogonal to one another as possible: `count` of them in `dim` dimensions.

Source: Shen, Sun, Wei, "Equiangular Basis Vectors", arXiv 2303.11637, section 3, which minimises a sum of hinges over |cos|.
Here, a closed form is used if there is one that reaches or nearly reaches the bound (`exact_bases`). Otherwise a smooth
maximum of |cos| is minimised (`basis_search`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from zoo.core.errors import ZooError
from zoo.families.equiangular import basis_search, exact_bases
from zoo.families.equiangular.spec import compute_welch_bound

VERSION = 3  # of the search: raised when the same seed would give other numbers
MAX_CELLS = 1 << 23  # cosines or components in memory at a time
NEAR = 1.05  # a closed form is used without a search if its |cos| is at most this many times the bound


@dataclass(frozen=True)
class Basis:
    """Unit vectors, kept as generators.

    Attributes:
        generators: (m, channels, g) float32. Row i·g + s of the basis is generator i with every channel rotated by s places.
            This needs no arithmetic, so the rows are bit-equal if the generators are.
        count: number of rows.
        dim: components of a row. Components from channels·g on are zero.
        method: orthonormal, simplex, paley, kerdock or orbits.
        seed: the seed of the search, which method orbits uses.
        version: the version of the search.
    """

    generators: torch.Tensor
    count: int
    dim: int
    method: str
    seed: int
    version: int = VERSION

    @property
    def sha256(self) -> str:
        """Hex digest of the generators' bytes, shape, version, method and size."""
        shape = (self.version, self.method, self.count, self.dim, *self.generators.shape)
        digest = hashlib.sha256(repr(shape).encode())
        digest.update(self.generators.contiguous().cpu().numpy().astype("<f4").tobytes())
        return digest.hexdigest()

    def get_rows(self, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Return rows `start` to `stop` as (n, dim) float32; by default all rows."""
        stop = self.count if stop is None else min(stop, self.count)
        _, channels, g = self.generators.shape
        rows = torch.zeros(max(0, stop - start), self.dim, device=self.generators.device)
        if g == 1:
            rows[:, :channels] = self.generators[start:stop, :, 0]
            return rows
        numbers = torch.arange(start, stop, device=rows.device)
        positions = (torch.arange(g, device=rows.device)[None] - (numbers % g)[:, None]) % g
        block_size = max(1, MAX_CELLS // self.dim)
        for first in range(0, len(numbers), block_size):
            block = slice(first, first + block_size)
            generators = self.generators[numbers[block] // g]  # (n, channels, g)
            rotated = generators.gather(2, positions[block, None].expand(-1, channels, -1))
            rows[block, : channels * g] = rotated.flatten(1)
        return rows

    def to(self, device: torch.device) -> Basis:
        """Return the same basis on another device."""
        return self if self.generators.device == device else replace(self, generators=self.generators.to(device))

    @cached_property
    def _cached_rows(self) -> dict[int, torch.Tensor]:
        return {}

    @cached_property
    def _spectra(self) -> torch.Tensor:
        with torch.inference_mode(False):  # what an encoder keeps from a prediction is used in a later training too
            spectra: torch.Tensor = torch.fft.rfft(self.generators, dim=2).conj()
        return spectra

    def compute_cosines(self, vectors: torch.Tensor, count: int) -> torch.Tensor:
        """Return the products (n, count) float32 of vectors (n, dim) with the first `count` rows.

        Long orbits are never written out: the correlation theorem gives the products from the generators' spectra.
        """
        _, channels, g = self.generators.shape
        used = -(-count // g)
        if g < 16 or used == 1:
            if count not in self._cached_rows:
                with torch.inference_mode(False):
                    self._cached_rows[count] = self.get_rows(0, count)
            return vectors @ self._cached_rows[count].T
        spectra = torch.fft.rfft(vectors[:, : channels * g].view(-1, channels, g), dim=2)
        products = torch.einsum("ncf,mcf->nmf", spectra, self._spectra[:used].to(vectors.device))
        cosines: torch.Tensor = torch.fft.irfft(products, n=g, dim=2).flatten(1)[:, :count]
        return cosines

    def compute_coherence(self, count: int | None = None) -> float:
        """Return the largest |cos| between two of the first `count` rows, by default of all; 0 for a single row.

        The computation is in float64, one block of rows at a time.
        """
        count = self.count if count is None else count
        g, largest = self.generators.shape[2], 0.0
        whole, rest = divmod(count, g)
        generators = self.generators[: whole + (rest > 0)].double()
        spectra = torch.fft.rfft(generators, dim=2) if g > 1 else generators
        m = len(spectra)
        block_size = max(1, MAX_CELLS // (m * g))
        for start in range(0, m, block_size):
            block = spectra[start : start + block_size]
            products = torch.einsum("acf,bcf->abf", block, spectra.conj())
            cosines = (torch.fft.irfft(products, n=g, dim=2) if g > 1 else products).abs_()
            diagonal = torch.arange(len(block), device=cosines.device)
            cosines[diagonal, diagonal + start, 0] = 0
            if rest and start + len(block) == m:  # only some rotations of the last generator are rows
                cosines[-1, -1, rest : g - rest + 1] = 0
            largest = max(largest, float(cosines.max()))
        return largest


def estimate_cost(count: int, dim: int, version: int = VERSION) -> float:
    """Estimate the most multiplications that `make` may take; 0 for a closed form."""
    if count <= dim + 1 or _find_exact_basis(count, dim, NEAR * compute_welch_bound(count, dim)):
        return 0.0
    plans = basis_search.plan_searches(count, dim, version)
    return sum(plan.steps * basis_search.estimate_work(count, dim, plan.order) for plan in plans)


def make(
    count: int,
    dim: int,
    *,
    seed: int = 42,
    alpha: float | None = None,
    device: str | torch.device = "cpu",
    progress: basis_search.Progress = lambda done, total, best: None,
    version: int = VERSION,
) -> Basis:
    """Make `count` unit vectors in `dim` dimensions.

    Args:
        seed: seed of the search, if a search is needed.
        alpha: stop as soon as no |cos| is above this; by default the search ends after its steps.
        device: where the search runs.
        progress: called during the search, see `basis_search.Progress`.
        version: the version of the search, 2 or later.

    Raises ZooError for sizes below 1, and for an `alpha` below the Welch bound, before any work.
    """
    if count < 1 or dim < 1:
        raise ZooError(f"a basis of {count} vectors in {dim} dimensions: both numbers must be at least 1")
    bound = compute_welch_bound(count, dim)
    if alpha is not None and alpha < bound * (1 - 1e-6):
        raise ZooError(
            f"{count} unit vectors in {dim} dimensions cannot have all |cos| ≤ {alpha:g}: the Welch bound is {bound:.4f}; "
            "ask for a larger alpha, fewer vectors or more dimensions"
        )
    if count <= dim:
        generator = torch.zeros(1, 1, dim)
        generator[0, 0, 0] = 1
        return Basis(generator.to(device), count, dim, "orthonormal", seed)
    if count == dim + 1:
        return Basis(exact_bases.build_simplex(dim)[:, :, None].to(device), count, dim, "simplex", seed)
    exact = _find_exact_basis(count, dim, alpha if alpha is not None else NEAR * bound)
    if exact is None:
        generators = basis_search.search(count, dim, bound, seed, alpha or 0.0, device, progress, version)
        basis = Basis(generators, count, dim, "orbits", seed, version)
        exact = _find_exact_basis(count, dim, basis.compute_coherence() * (1 - 1e-6))
        if exact is None:
            return basis
    method, size = exact
    is_paley = method == "paley"
    generators = exact_bases.build_paley(size) if is_paley else exact_bases.build_kerdock(count, size)[:, :, None]
    return Basis(generators.to(device), count, dim, method, seed)


def _find_exact_basis(count: int, dim: int, alpha: float) -> tuple[str, int] | None:
    """Find a closed form of `count` lines that fit into `dim` dimensions with all |cos| ≤ `alpha`.

    Returns its method, and its prime (paley) or its dimensions (kerdock).
    """
    if prime := exact_bases.find_paley_prime(count, dim, alpha):
        return "paley", prime
    size = exact_bases.find_kerdock_dim(dim)
    if size and count <= size * (size // 2 + 1) and size**-0.5 <= alpha * (1 + 1e-6):
        return "kerdock", size
    return None
