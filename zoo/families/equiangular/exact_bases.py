"""Sets of nearly orthogonal lines that have a closed form.

- The corners of a regular simplex.
- The lines of a conference matrix: Paley 1933; Lemmens and Seidel, "Equiangular lines", 1973.
- The lines of a Kerdock set of quadratic forms: Kerdock 1972; Calderbank, Cameron, Kantor and Seidel, "Z4-Kerdock codes,
  orthogonal spreads, and extremal Euclidean line-sets", 1997. Any two of them are orthogonal or have |cos| = 1/√dim.
"""

from __future__ import annotations

import math

import torch

IRREDUCIBLE_POLYNOMIALS = {3: 0b1011, 5: 0b100101, 7: 0b10000011}
"""By degree n: an irreducible polynomial over GF(2) whose variable generates all non-zero elements of GF(2^n)."""


def build_simplex(dim: int) -> torch.Tensor:
    """Return the dim + 1 corners of a regular simplex as (dim + 1, dim) float32. Every cosine is -1/dim."""
    corners = torch.eye(dim, dtype=torch.float64) * math.sqrt(1 + 1 / dim)
    corners -= (math.sqrt(dim + 1) + 1) / dim**1.5
    return torch.cat([corners, torch.full((1, dim), dim**-0.5, dtype=torch.float64)]).float()


# -- conference matrices -----------------------------------------------------------------------------------------------


def find_paley_prime(count: int, dim: int, alpha: float) -> int | None:
    """Return the largest prime q ≡ 1 mod 4 whose lines suffice, or None.

    There are q + 1 lines in (q + 1)/2 dimensions with |cos| = 1/√q. They suffice if there are at least `count` of them, if
    they fit into `dim` dimensions, and if 1/√q ≤ alpha.
    """
    for q in range(2 * dim - 1, max(count - 2, math.ceil((1 - 1e-6) / alpha**2) - 1), -1):
        if q % 4 == 1 and all(q % n for n in range(3, math.isqrt(q) + 1, 2)):
            return q
    return None


Element = tuple[int, int]
"""The element a + b√r of GF(q²), where r is the `root` of the field: a number without a square root in GF(q)."""


class _QuadraticField:
    """Arithmetic in GF(q²) for an odd prime q."""

    def __init__(self, q: int) -> None:
        self.q = q
        self.squares = {n * n % q for n in range(1, q)}
        self.root = next(n for n in range(2, q) if n not in self.squares)

    def multiply(self, x: Element, y: Element) -> Element:
        return (x[0] * y[0] + self.root * x[1] * y[1]) % self.q, (x[0] * y[1] + x[1] * y[0]) % self.q

    def raise_to(self, x: Element, exponent: int) -> Element:
        result = (1, 0)
        while exponent:
            if exponent & 1:
                result = self.multiply(result, x)
            x, exponent = self.multiply(x, x), exponent >> 1
        return result

    def find_rotation(self) -> Element:
        """Return an element of order q + 1: a generator of the elements of norm 1."""
        order = self.q + 1
        primes = [n for n in range(2, order + 1) if order % n == 0 and all(n % p for p in range(2, math.isqrt(n) + 1))]
        candidates = (self.raise_to((a, 1), self.q - 1) for a in range(self.q))
        return next(z for z in candidates if all(self.raise_to(z, order // prime) != (1, 0) for prime in primes))

    def find_second_orbit(self) -> Element:
        """Return a point of the projective line outside the orbit of 1: its norm is not a square."""
        return next((a, 1) for a in range(self.q) if (a * a - self.root) % self.q not in self.squares)


def build_paley(q: int) -> torch.Tensor:
    """Return generators (2, 1, (q + 1)/2) float32 of q + 1 equiangular lines with |cos| = 1/√q.

    The points of the projective line over GF(q) are two orbits of the elements of norm 1 in GF(q²). Over these orbits, the
    conference matrix χ(det(x, y)) consists of four circulant blocks. Its Gram matrix 1 + C/√q has one eigenvector at each
    frequency, and the generators hold this eigenvector there.
    """
    field = _QuadraticField(q)
    rotation, one, other = field.find_rotation(), (1, 0), field.find_second_orbit()

    def transform_block(x: Element, y: Element) -> torch.Tensor:
        """Return the Fourier transform of the first row of the circulant block of the orbits of x and y."""
        row, point, conjugate = [], y, (x[0], -x[1] % q)
        for _ in range((q + 1) // 2):
            determinant = field.multiply(conjugate, point)[1]
            row.append(0.0 if determinant == 0 else 1.0 if determinant in field.squares else -1.0)
            point = field.multiply(point, rotation)
        spectrum: torch.Tensor = torch.fft.fft(torch.tensor(row, dtype=torch.float64))
        return spectrum

    first = 1 + transform_block(one, one).real / q**0.5
    cross = transform_block(one, other) / q**0.5
    second = 1 + transform_block(other, other).real / q**0.5
    # A Hermitian 2 × 2 matrix of rank one is the outer product of either of its rows, scaled. The longer row is not near 0.
    a, b = first.clamp(min=0), second.clamp(min=0)
    is_first_longer = a >= b
    length = torch.where(is_first_longer, a, b).sqrt().clamp(min=1e-12)
    u = torch.where(is_first_longer, length + 0j, cross.conj() / length)
    v = torch.where(is_first_longer, cross / length, length + 0j)
    generators: torch.Tensor = torch.fft.ifft(torch.stack([u, v])).real[:, None]
    unit: torch.Tensor = (generators / generators.flatten(1).norm(dim=1)[:, None, None]).float()
    return unit


# -- Kerdock sets ------------------------------------------------------------------------------------------------------


def find_kerdock_dim(dim: int) -> int | None:
    """Return the largest number of dimensions, at most `dim`, with a known Kerdock set; None below 16."""
    sizes = [1 << (degree + 1) for degree in IRREDUCIBLE_POLYNOMIALS]
    return max((size for size in sizes if size <= dim), default=None)


def build_kerdock_forms(dim: int) -> torch.Tensor:
    """Return (dim / 2, dim) of ±1: (-1) to the quadratic forms of a Kerdock set. `dim` is one of `find_kerdock_dim`.

    The form s of GF(2^n), n odd, has at the point (x, e) the value Q(sx) + e·tr(sx), with Q(y) = Σ tr(y^(1 + 2^i)) over
    0 < i ≤ (n - 1)/2. The difference of two forms has full rank. Therefore rows of different forms, times characters, have
    |cos| = 1/√dim.
    """
    n = dim.bit_length() - 2
    q = 1 << n
    powers = [1]
    while len(powers) < q - 1:
        doubled = powers[-1] << 1
        powers.append(doubled ^ IRREDUCIBLE_POLYNOMIALS[n] if doubled & q else doubled)
    exponents = {element: exponent for exponent, element in enumerate(powers)}

    def compute_trace(exponent: int) -> int:
        trace = 0
        for i in range(n):
            trace ^= powers[(exponent << i) % (q - 1)]
        return trace

    traces = [compute_trace(k) for k in range(q - 1)]
    sums = [sum(traces[k * (1 + (1 << i)) % (q - 1)] for i in range(1, (n + 1) // 2)) & 1 for k in range(q - 1)]
    forms = torch.ones(q, q, 2)
    for s in range(1, q):
        for x in range(1, q):
            k = (exponents[s] + exponents[x]) % (q - 1)
            forms[s, x, 0] = 1 - 2 * sums[k]
            forms[s, x, 1] = 1 - 2 * (sums[k] ^ traces[k])
    return forms.flatten(1)


def build_kerdock(count: int, dim: int) -> torch.Tensor:
    """Return the first `count` of the dim·(dim / 2 + 1) lines as (count, dim) float32: the rows of each form, then the axes."""
    scaled = build_kerdock_forms(dim) * dim**-0.5
    bases = scaled[: -(-count // dim), None] * build_characters(dim)
    return torch.cat([bases.flatten(0, 1), torch.eye(dim)])[:count].contiguous()


def build_characters(size: int) -> torch.Tensor:
    """Return the (size, size) matrix of (-1)^(i·k), where i·k is the product of the bits. `size` is a power of two."""
    index = torch.arange(size)
    common_bits = index[:, None] & index
    signs = torch.ones(size, size)
    for bit in range(size.bit_length() - 1):
        signs *= 1 - 2 * (common_bits >> bit & 1)
    return signs
