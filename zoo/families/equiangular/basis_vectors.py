"""Unit vectors that are as nearly orthogonal to one another as they can be: `count` of them in `dim` dimensions.

Source: Shen, Sun, Wei, "Equiangular Basis Vectors", arXiv 2303.11637, section 3, which descends a sum of hinges over |cos|.
Here exact cases are written down, and so are lines that come near to the bound where theory has some (`exact_bases`).
Otherwise a smooth maximum of |cos| is minimised (`basis_search`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from zoo.core.errors import ZooError
from zoo.core.lazy import lazy
from zoo.families.equiangular import basis_search, exact_bases
from zoo.families.equiangular.spec import welch

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch")

VERSION = 3  # of what a seed stands for: raised when the same seed would give other numbers
CELLS = 1 << 23  # cosines or components in memory at a time
NEAR = 1.05  # a construction that comes this near to the bound is taken as it is


@dataclass(frozen=True)
class Basis:
    """Unit vectors, kept as generators.

    Attributes:
        generators: (m, channels, g) float32. Row i·g + s of the basis is generator i, each channel turned by s places; no
            arithmetic is needed for it, so the rows are bit-equal wherever the generators are.
        count, dim: rows, and components of a row; those beyond channels·g are zero.
        method: orthonormal, simplex, paley, kerdock or orbits; seed: what the last one drew from.
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
        spectra = self.generators[: whole + (rest > 0)].double()
        spectra = torch.fft.rfft(spectra, dim=2) if g > 1 else spectra
        m = len(spectra)
        block = max(1, CELLS // (m * g))
        for start in range(0, m, block):
            own = spectra[start : start + block]
            products = torch.einsum("acf,bcf->abf", own, spectra.conj())
            cosines = (torch.fft.irfft(products, n=g, dim=2) if g > 1 else products).abs_()
            here = torch.arange(len(own), device=cosines.device)
            cosines[here, here + start, 0] = 0
            if rest and start + len(own) == m:  # of the last generator only some turns are rows
                cosines[-1, -1, rest : g - rest + 1] = 0
            most = max(most, float(cosines.max()))
        return most


def cost(count: int, dim: int, version: int = VERSION) -> float:
    """Multiplications that `make` takes at most, about; 0 for what is written down."""
    if count <= dim + 1 or _written_down(count, dim, NEAR * welch(count, dim)):
        return 0.0
    return sum(
        plan.steps * basis_search.work(count, dim, plan.order) for plan in basis_search.planned(count, dim, version)
    )


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
    """`count` unit vectors in `dim` dimensions.

    Args:
        alpha: stop as soon as no |cos| is above it; by default the search ends when its steps do.
        version: what the seed stands for, 2 or later.

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
        return Basis(exact_bases.simplex(dim)[:, :, None].to(device), count, dim, "simplex", seed)
    exact = _written_down(count, dim, alpha if alpha is not None else NEAR * bound)
    if exact is None:
        found = basis_search.search(count, dim, bound, seed, alpha or 0.0, device, progress, version)
        basis = Basis(found, count, dim, "orbits", seed, version)
        exact = _written_down(count, dim, basis.coherence() * (1 - 1e-6))
        if exact is None:
            return basis
    method, size = exact
    generators = exact_bases.paley(size) if method == "paley" else exact_bases.kerdock(count, size)[:, :, None]
    return Basis(generators.to(device), count, dim, method, seed)


def _written_down(count: int, dim: int, alpha: float) -> tuple[str, int] | None:
    """A set of lines that has `count`, fits, and has no |cos| above `alpha`: its kind, and its prime or its dimensions."""
    if q := exact_bases.paley_prime(count, dim, alpha):
        return "paley", q
    inside = exact_bases.kerdock_dim(dim)
    if inside and count <= inside * (inside // 2 + 1) and inside**-0.5 <= alpha * (1 + 1e-6):
        return "kerdock", inside
    return None
