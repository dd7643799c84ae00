"""Sets of lines that can be written down, as near to orthogonal as theory has them: corners of a simplex, the lines of a
conference matrix (Paley 1933; Lemmens and Seidel, "Equiangular lines", 1973), and those of a Kerdock set of quadratic forms
(Kerdock 1972; Calderbank, Cameron, Kantor and Seidel, "Z4-Kerdock codes, orthogonal spreads, and extremal Euclidean line-sets",
1997), of which any two are orthogonal or have |cos| = 1/√dim.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from zoo.core.lazy import lazy

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch")

FIELDS = {3: 0b1011, 5: 0b100101, 7: 0b10000011}
"""By n: an irreducible polynomial of degree n over GF(2), of which the variable generates all that is not 0."""


def simplex(dim: int) -> torch.Tensor:
    """(dim + 1, dim): the corners of a regular simplex, every cosine -1/dim."""
    corners = torch.eye(dim, dtype=torch.float64) * math.sqrt(1 + 1 / dim)
    corners -= (math.sqrt(dim + 1) + 1) / dim**1.5
    return torch.cat([corners, torch.full((1, dim), dim**-0.5, dtype=torch.float64)]).float()


def paley_prime(count: int, dim: int, alpha: float) -> int | None:
    """The largest prime q ≡ 1 mod 4 whose q + 1 lines in (q + 1)/2 dimensions are enough, fit, and have 1/√q ≤ alpha."""
    for q in range(2 * dim - 1, max(count - 2, math.ceil((1 - 1e-6) / alpha**2) - 1), -1):
        if q % 4 == 1 and all(q % n for n in range(3, math.isqrt(q) + 1, 2)):
            return q
    return None


def paley(q: int) -> torch.Tensor:
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


def kerdock_dim(dim: int) -> int | None:
    """The largest number of dimensions, at most `dim`, that has a Kerdock set here; None below 16."""
    return max((d for n in FIELDS if (d := 1 << (n + 1)) <= dim), default=None)


def kerdock_forms(dim: int) -> torch.Tensor:
    """(dim / 2, dim) of ±1: (-1) to the quadratic forms of a Kerdock set, for a `dim` of `kerdock_dim`.

    A form s of GF(2^n) at (x, e), n odd, is Q(sx) + e·tr(sx) with Q(y) = Σ tr(y^(1 + 2^i)) over 0 < i ≤ (n - 1)/2. The
    difference of any two is of full rank, which is why rows of different forms, times characters, meet at 1/√dim.
    """
    n = dim.bit_length() - 2
    q = 1 << n
    powers = [1]
    while len(powers) < q - 1:
        doubled = powers[-1] << 1
        powers.append(doubled ^ FIELDS[n] if doubled & q else doubled)
    place = {value: k for k, value in enumerate(powers)}

    def trace(k: int) -> int:  # of the k-th power
        out = 0
        for i in range(n):
            out ^= powers[(k << i) % (q - 1)]
        return out

    traces = [trace(k) for k in range(q - 1)]
    sums = [sum(traces[k * (1 + (1 << i)) % (q - 1)] for i in range(1, (n + 1) // 2)) & 1 for k in range(q - 1)]
    forms = torch.ones(q, q, 2)
    for s in range(1, q):
        for x in range(1, q):
            k = (place[s] + place[x]) % (q - 1)
            forms[s, x, 0] = 1 - 2 * sums[k]
            forms[s, x, 1] = 1 - 2 * (sums[k] ^ traces[k])
    return forms.flatten(1)


def kerdock(count: int, dim: int) -> torch.Tensor:
    """The first `count` (count, dim) float32 of the dim·(dim / 2 + 1) lines: the rows of each form, then the axes."""
    scaled = kerdock_forms(dim) * dim**-0.5
    bases = scaled[: -(-count // dim), None] * characters(dim)
    return torch.cat([bases.flatten(0, 1), torch.eye(dim)])[:count].contiguous()


def characters(size: int) -> torch.Tensor:
    """(size, size) of ±1, for a power of two: row i has (-1)^(i·k), with the bits of i and k."""
    place = torch.arange(size)
    common = place[:, None] & place
    signs = torch.ones(size, size)
    for bit in range(size.bit_length() - 1):
        signs *= 1 - 2 * (common >> bit & 1)
    return signs
