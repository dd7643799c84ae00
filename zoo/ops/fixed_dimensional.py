"""Fixed-dimensional encodings: sets of token vectors as one long vector, whose inner products estimate MaxSim.

Random directions divide the space into cells. The encoding of a query holds the sum of its tokens in each cell, and that of a
document their mean. So the inner product adds, for every token of the query, the mean of the document's tokens near it. Any index
for inner products then finds candidates for exact MaxSim.

Source: Dhulipala et al., "MUVERA", arXiv 2405.19504, section 2. Cells are numbered in plain binary, as in fastembed's `Muvera`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from zoo.core import hardware
from zoo.core.errors import ZooError
from zoo.ops.token_sets import Floats, Integers, check_token_sets

GENERATOR = "philox-1"
"""The name of the way in which `draw_cells` draws. It depends on no version of a library, and changes with any change of it."""

BLOCK_TOKENS = 1 << 13
BLOCK_NUMBERS = 1 << 19  # of the sums of all cells of a block, which should stay in the processor's cache
MOST_BITS = 12
NEAR_ZERO = 1e-4  # a product below this share of the token's norm is computed again in float64


class Cells(NamedTuple):
    """The random matrices of an encoding.

    Attributes:
        directions: (repetitions, d, bits) float32 normals of the planes that divide the space.
        projections: (repetitions, d, project) float32 with entries ±1 / sqrt(project), or None to keep all d components.
    """

    directions: Floats
    projections: Floats | None

    @property
    def bits(self) -> int:
        """The number of planes of a repetition, which make 2**bits cells."""
        return int(self.directions.shape[2])

    @property
    def width(self) -> int:
        """The number of components of an encoding."""
        part = self.directions.shape[1] if self.projections is None else self.projections.shape[2]
        return int(self.directions.shape[0] * part) << self.bits


def draw_cells(dim: int, *, repetitions: int = 20, bits: int = 4, project: int | None = 16, seed: int = 42) -> Cells:
    """Draw the matrices for tokens with `dim` components. The seed decides every number, in all versions of numpy.

    Args:
        dim: components d of a token vector.
        repetitions: how often the space is divided.
        bits: planes of a repetition, at most 12.
        project: components that are kept of a cell. None, or a number that is not below `dim`, keeps all of them.
        seed: key of the counter-based generator Philox.

    Raises ZooError for a number out of range.
    """
    for name, value, least in (("dim", dim, 1), ("repetitions", repetitions, 1), ("bits", bits, 0)):
        if value < least:
            raise ZooError(f"{name}: {value} is too small; give at least {least}")
    if bits > MOST_BITS:
        raise ZooError(f"bits: {bits} planes make {2**bits:,} cells; give at most {MOST_BITS}")
    if project is not None and project < 1:
        raise ZooError(f"project: {project} is too small; give at least 1, or null for all components")
    generator = np.random.Philox(key=seed)
    directions = _draw_normals(generator, repetitions * dim * bits).reshape(repetitions, dim, bits)
    if project is None or project >= dim:
        return Cells(directions, None)
    signs = (generator.random_raw(repetitions * dim * project) >> np.uint64(63)).astype(np.float32) * 2 - 1
    return Cells(directions, signs.reshape(repetitions, dim, project) / np.float32(np.sqrt(project)))


def _draw_normals(generator: np.random.Philox, count: int) -> Floats:
    """Draw normal numbers (count,) by the transform of Box and Muller from raw bits, whose stream numpy never changes."""
    uniform = (generator.random_raw(2 * count).reshape(2, count) >> np.uint64(11)) * 2.0**-53
    normal: Floats = (np.sqrt(-2 * np.log1p(-uniform[0])) * np.cos(2 * np.pi * uniform[1])).astype(np.float32)
    return normal


def encode_queries(tokens: Floats, offsets: Integers, cells: Cells) -> Floats:
    """Return the encodings (n, width) float32 of n queries: the sum of the tokens in each cell.

    Args:
        tokens: (t, d) float32 token vectors of all queries, one after another.
        offsets: (n + 1,) int64, where each query begins among the tokens, and the end.
        cells: the matrices, the same as those of the documents.

    A query without tokens is a vector of zeros. Raises ZooError for arrays that do not fit.
    """
    return _encode(tokens, offsets, cells, "sum", fill=False)


def encode_documents(tokens: Floats, offsets: Integers, cells: Cells, *, fill: bool = True) -> Floats:
    """Return the encodings (n, width) float32 of n documents: the mean of the tokens in each cell.

    Args:
        tokens, offsets, cells: as in `encode_queries`.
        fill: whether an empty cell takes a token of the nearest cell that has one, by the number of planes between them. It
            is the first token of that cell. If several cells are equally near, the one with the lowest number counts.

    A document without tokens is a vector of zeros. Raises ZooError for arrays that do not fit.
    """
    return _encode(tokens, offsets, cells, "mean", fill=fill)


def _encode(tokens: Floats, offsets: Integers, cells: Cells, mode: str, *, fill: bool) -> Floats:
    tokens, offsets = check_token_sets(tokens, offsets)
    if tokens.shape[1] != cells.directions.shape[1]:
        raise ZooError(f"tokens: {tokens.shape[1]} components, but the cells are for {cells.directions.shape[1]}")
    repetitions, dim, bits = cells.directions.shape
    directions = torch.from_numpy(np.ascontiguousarray(cells.directions.transpose(0, 2, 1)).reshape(-1, dim))
    hardware.keep_large_blocks()
    projections = None if cells.projections is None else torch.from_numpy(cells.projections)
    encodings = np.zeros((len(offsets) - 1, cells.width), np.float32)
    for start, end in _plan_blocks(offsets, max(1, BLOCK_NUMBERS // (repetitions * dim << bits))):
        block = torch.from_numpy(tokens[offsets[start] : offsets[end]])
        places = _find_cells(block, directions, repetitions, bits)
        order = _sort_by_cell(places, np.diff(offsets[start : end + 1]), bits, fill)
        parts = _pool_cells(block, order, mode, projections, repetitions)
        encodings[start:end] = parts.view(repetitions, end - start, -1).transpose(0, 1).flatten(1).numpy()
    return encodings


def _plan_blocks(offsets: Integers, most_sets: int) -> Iterator[tuple[int, int]]:
    """Yield the first and the last set + 1 of blocks of at most BLOCK_TOKENS tokens, or of one set."""
    start, count = 0, len(offsets) - 1
    while start < count:
        end = int(np.searchsorted(offsets, offsets[start] + BLOCK_TOKENS, side="right")) - 1
        end = min(max(end, start + 1), start + most_sets, count)
        yield start, end
        start = end


def _find_cells(tokens: torch.Tensor, directions: torch.Tensor, repetitions: int, bits: int) -> npt.NDArray[np.int32]:
    """Return the cells (repetitions, t) int32 of tokens (t, d): bit i is set on the positive side of plane i.

    The sign of a float32 product near 0 depends on the order of the sum, hence on the block. The products of such a token are
    computed again. `directions` are (repetitions · bits, d).
    """
    cells = torch.zeros(repetitions, len(tokens), dtype=torch.int32)
    if not bits or not len(tokens):
        return cells.numpy()
    products = directions @ tokens.T
    near = (products.abs().amin(0) < NEAR_ZERO * tokens.norm(dim=1)).nonzero()[:, 0]
    if len(near):
        products[:, near] = (directions.double() @ tokens[near].double().T).sign().float()
    is_positive = (products > 0).view(repetitions, bits, -1)
    for bit in range(bits):
        cells += is_positive[:, bit].to(torch.int32) << bit
    return cells.numpy()


def _sort_by_cell(places: npt.NDArray[np.int32], lengths: Integers, bits: int, fill: bool) -> sparse.csr_matrix:
    """Return which tokens each cell holds: a sparse matrix with a row for each repetition, set and cell, in this order."""
    repetitions, count = places.shape
    numbers = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    sets = np.arange(repetitions, dtype=np.int32)[:, None] * len(lengths) + numbers
    rows = ((sets << bits) + places).ravel()
    columns = np.tile(np.arange(count, dtype=np.int32), repetitions)
    row_count = repetitions * len(lengths) << bits
    if fill:
        first = np.full(row_count, -1, np.int32)
        first[rows[::-1]] = columns[::-1]  # of several values for a place, numpy keeps the last
        empty, fillers = _find_fillers(first.reshape(-1, 1 << bits), bits)
        rows, columns = np.concatenate([rows, empty]), np.concatenate([columns, fillers])
    values = np.ones(len(rows), np.float32)
    return sparse.coo_matrix((values, (rows, columns)), shape=(row_count, count)).tocsr()


def _find_fillers(first: npt.NDArray[np.int32], bits: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return the rows of empty cells, and the token that each of them takes.

    `first` (sets, cells) holds the first token of each cell, or -1. The key of a cell is the distance in planes to another one,
    followed by that one's number. Planes are crossed one after another, so the least key is found in `bits` steps.
    """
    cell_count = 1 << bits
    numbers = np.arange(cell_count, dtype=np.int32)
    far = np.int32((bits + 1) * cell_count)
    keys = np.where(first >= 0, numbers, far)
    for bit in range(bits):
        keys = np.minimum(keys, keys[:, numbers ^ (1 << bit)] + cell_count)
    is_empty = (first < 0) & (keys < far)
    nearest = keys[is_empty] % cell_count
    sets = np.nonzero(is_empty)[0]
    return np.flatnonzero(is_empty).astype(np.int32), first[sets, nearest]


def _pool_cells(
    tokens: torch.Tensor, order: sparse.csr_matrix, mode: str, projections: torch.Tensor | None, repetitions: int
) -> torch.Tensor:
    """Return (repetitions · sets · cells, components): sums or means of the tokens of each cell, projected."""
    parts = _sum_cells(tokens, order, projections, repetitions)
    if mode == "sum":
        return parts
    counts = torch.from_numpy(np.diff(order.indptr).astype(np.float32)).clamp_min_(1)
    return parts.flatten(0, -2).div_(counts[:, None])  # a division of the projected sums, which are short


def _sum_cells(
    tokens: torch.Tensor, order: sparse.csr_matrix, projections: torch.Tensor | None, repetitions: int
) -> torch.Tensor:
    """Return the sums (…, components) of the tokens of each cell, projected.

    The projection is linear, so it may come before or after the sum. It comes where fewer vectors pass it.
    """
    indices, starts = torch.from_numpy(order.indices), torch.from_numpy(order.indptr[:-1])
    if projections is None or len(tokens) * repetitions >= len(starts):
        sums = torch.nn.functional.embedding_bag(indices, tokens, starts, mode="sum")
        return sums if projections is None else torch.bmm(sums.view(repetitions, -1, tokens.shape[1]), projections)
    projected = torch.matmul(tokens, projections).flatten(0, 1)
    counts = order.indptr[:: len(starts) // repetitions]
    own = np.repeat(np.arange(repetitions, dtype=np.int32) * len(tokens), np.diff(counts))
    return torch.nn.functional.embedding_bag(indices + torch.from_numpy(own), projected, starts, mode="sum")
