"""Codecs of token tables: int8 for each row, int4 in groups, product quantisation, and the error of each row.

A table (rows, dim) float32 becomes a dict of small tensors, its parts. `decode` reads rows from the parts, and never needs the
whole table as floats.

These are the parts, with their dtypes and shapes:

- `codes`, uint8: int8 (rows, dim); int4 (rows, ceil(dim / 32) * 16), two numbers in a byte; pq (rows, ceil(dim / 4)).
- `scales`, float16: int8 (rows, 1); int4 (rows, ceil(dim / 32)).
- `words`, float16: pq (ceil(dim / 4), words, 4).
- `kept_ids` (k,) int64 and `kept_rows` (k, dim) float32: rows that stay as they are.
- `finer_ids` (f,) int64, `finer_codes` (f, dim) uint8 and `finer_scales` (f, 1) float16: rows in int8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import torch

Codec = Literal["int8", "int4", "pq"]
CODECS: tuple[Codec, ...] = get_args(Codec)
GROUP = 32
"""Numbers that share a scale in int4, as in GGUF's q4_0."""
PART = 4
"""Numbers that one word of the product quantiser stands for."""
WORDS = 256
"""Largest number of words of a part, so that its number fits into one byte."""
ROUNDS = 12
"""Iterations of k-means. More of them change the error in the third digit only."""
SAMPLE = WORDS * 128
"""Most rows that k-means reads."""
SHRINKS = tuple(1 - step / 32 for step in range(10))
"""Factors of a group's scale that int4 tries. Cutting one extreme value can make the others more exact."""
Parts = dict[str, torch.Tensor]


def encode(
    table: torch.Tensor, codec: Codec, *, kept: Sequence[int] = (), finer: Sequence[int] = (), seed: int = 42
) -> Parts:
    """Encode `table` (rows, dim) as parts.

    Args:
        table: finite floats.
        codec: int8 is symmetric with one scale a row; int4 has one scale in each group of 32 numbers, chosen for the least
            squared error; pq is product quantisation (Jégou et al., 2011, section II) of 4 numbers to a byte.
        kept: rows that stay float32, for example those of special tokens.
        finer: rows that are stored in int8 besides, for example the most frequent tokens (MGQE: Kang et al.,
            arXiv 2002.08530, section 3).
        seed: of k-means.

    Raises ValueError for a table that is not a finite matrix, for an unknown codec and for a row that does not exist.
    """
    if table.ndim != 2 or not table.numel() or not torch.isfinite(table).all():
        raise ValueError("a table is a matrix of finite numbers with at least one row")
    if table.abs().max() > torch.finfo(torch.float16).max:
        raise ValueError("the numbers of the table are too large for scales in float16")
    if any(not 0 <= row < len(table) for row in (*kept, *finer)):
        raise ValueError(f"a table of {len(table)} rows has rows 0 to {len(table) - 1} only")
    table = table.detach().float().cpu()
    if codec == "int8":
        parts = _encode_int8(table)
    elif codec == "int4":
        parts = _encode_int4(table)
    elif codec == "pq":
        parts = _encode_pq(table, seed)
    else:
        raise ValueError(f"codec {codec!r} is not one of {', '.join(CODECS)}")
    kept_ids = torch.tensor(sorted(set(kept)), dtype=torch.int64)
    finer_ids = torch.tensor(sorted(set(finer) - set(kept)), dtype=torch.int64)
    parts |= {"kept_ids": kept_ids, "kept_rows": table[kept_ids].clone()}
    if len(finer_ids):
        finer_parts = _encode_int8(table[finer_ids])
        parts |= {"finer_ids": finer_ids, **{f"finer_{name}": part for name, part in finer_parts.items()}}
    return parts


def decode(parts: Mapping[str, torch.Tensor], codec: Codec, ids: torch.Tensor, dim: int) -> torch.Tensor:
    """Return the rows `ids` (…) int64 of a coded table as (…, dim). The dtype is that of `kept_rows`.

    A row is one gather and one product with its scales, or one gather of words.
    """
    flat = ids.reshape(-1)
    codes = parts["codes"][flat]
    if codec == "int8":
        rows = _scale_int8(codes, parts["scales"][flat])
    elif codec == "int4":
        rows = _scale_int4(codes, parts["scales"][flat], dim)
    else:
        words = parts["words"].float()
        rows = words[torch.arange(len(words), device=flat.device), codes.long()].flatten(1)[:, :dim]
    if "finer_ids" in parts:
        places, is_finer = _find_rows(parts["finer_ids"], flat)
        finer = _scale_int8(parts["finer_codes"][places], parts["finer_scales"][places])
        rows = torch.where(is_finer[:, None], finer, rows)
    rows = rows.to(parts["kept_rows"].dtype)
    if len(parts["kept_ids"]):
        places, is_kept = _find_rows(parts["kept_ids"], flat)
        rows = torch.where(is_kept[:, None], parts["kept_rows"][places], rows)
    return rows.view(*ids.shape, dim)


def describe_shapes(codec: Codec, rows: int, dim: int, kept: int, finer: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the parts of a table with `kept` rows in float32 and `finer` rows in int8."""
    groups, blocks = -(-dim // GROUP), -(-dim // PART)
    shapes: dict[str, tuple[int, ...]] = {"kept_ids": (kept,), "kept_rows": (kept, dim)}
    if codec == "int8":
        shapes |= {"codes": (rows, dim), "scales": (rows, 1)}
    elif codec == "int4":
        shapes |= {"codes": (rows, groups * GROUP // 2), "scales": (rows, groups)}
    else:
        shapes |= {"codes": (rows, blocks), "words": (blocks, min(WORDS, rows), PART)}
    if finer:
        shapes |= {"finer_ids": (finer,), "finer_codes": (finer, dim), "finer_scales": (finer, 1)}
    return shapes


def get_dtype(part: str) -> torch.dtype:
    """Return the dtype of a part."""
    if part.endswith("codes"):
        return torch.uint8
    if part.endswith("ids"):
        return torch.int64
    return torch.float32 if part == "kept_rows" else torch.float16


def count_bytes(parts: Mapping[str, torch.Tensor]) -> int:
    """Return the bytes of all parts, in a file as in memory."""
    return sum(part.numel() * part.element_size() for part in parts.values())


def compute_row_errors(table: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor:
    """Return the squared error of each row (rows,) relative to its squared norm. A row of zeros has the error 0 or inf."""
    errors, norms = (decoded - table).square().sum(1), table.square().sum(1)
    return torch.where(errors == 0, torch.zeros_like(errors), errors / norms)


def _encode_int8(table: torch.Tensor) -> Parts:
    # Codes are rounded by the scale that is stored, and not by the exact one, so the error stays half a step.
    scales = _as_scales(table.abs().amax(1, keepdim=True) / 127)
    codes = (table / _avoid_zero(scales)).round().clamp(-127, 127) + 128
    return {"codes": codes.to(torch.uint8), "scales": scales}


def _scale_int8(codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    return (codes.float() - 128) * scales.float()


def _encode_int4(table: torch.Tensor) -> Parts:
    """Try several scales for each group. The value with the largest magnitude becomes -8, which has no opposite."""
    groups = torch.nn.functional.pad(table, (0, -table.shape[1] % GROUP)).view(len(table), -1, GROUP)
    extremes = groups.gather(2, groups.abs().argmax(2, keepdim=True))
    best_scales = _as_scales(extremes / -8)
    best = _round_int4(groups, best_scales)
    best_errors = _compute_int4_errors(groups, best, best_scales)
    for shrink in SHRINKS[1:]:
        scales = _as_scales(extremes / -8 * shrink)
        codes = _round_int4(groups, scales)
        errors = _compute_int4_errors(groups, codes, scales)
        is_better = errors < best_errors
        best_scales, best = torch.where(is_better, scales, best_scales), torch.where(is_better, codes, best)
        best_errors = torch.where(is_better, errors, best_errors)
    numbers = (best + 8).to(torch.uint8).flatten(1)
    return {"codes": numbers[:, ::2] << 4 | numbers[:, 1::2], "scales": best_scales[..., 0].contiguous()}


def _round_int4(groups: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    return (groups / _avoid_zero(scales)).round().clamp(-8, 7)


def _compute_int4_errors(groups: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    return (codes * scales.float() - groups).square().sum(2, keepdim=True)


def _scale_int4(codes: torch.Tensor, scales: torch.Tensor, dim: int) -> torch.Tensor:
    numbers = torch.stack([codes >> 4, codes & 15], dim=-1).view(codes.shape[0], -1, GROUP).float() - 8
    return (numbers * scales.float()[..., None]).flatten(1)[:, :dim]


def _encode_pq(table: torch.Tensor, seed: int) -> Parts:
    """Fit k-means in each part of the rows. scikit-learn draws the first words from the rows."""
    from sklearn.cluster import KMeans

    rows, count = len(table), min(WORDS, len(table))
    blocks = torch.nn.functional.pad(table, (0, -table.shape[1] % PART)).view(rows, -1, PART).numpy()
    generator = np.random.default_rng(seed)
    sample = blocks if rows <= SAMPLE else blocks[np.sort(generator.permutation(rows)[:SAMPLE])]
    codes, words = np.empty(blocks.shape[:2], np.uint8), np.zeros((blocks.shape[1], count, PART), np.float32)
    for j in range(blocks.shape[1]):
        points = np.ascontiguousarray(sample[:, j])
        # Equal rows would make k-means warn that it finds fewer words than it was asked for.
        distinct = min(count, len(np.unique(points, axis=0)))
        fit = KMeans(distinct, init="random", n_init=1, max_iter=ROUNDS, tol=0, random_state=seed)
        words[j, :distinct] = _fit_quietly(fit, points)
        codes[:, j] = _find_nearest(blocks[:, j], words[j, :distinct].astype(np.float16).astype(np.float32))
    return {"codes": torch.from_numpy(codes), "words": torch.from_numpy(words.astype(np.float16))}


def _fit_quietly(fit: object, points: np.ndarray) -> np.ndarray:
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a fixed number of iterations is meant
        centers: np.ndarray = fit.fit(points).cluster_centers_  # type: ignore[attr-defined]
    return centers


def _find_nearest(points: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Return the number of the word next to each point. The squared norm of a point does not change which is nearest."""
    nearest: np.ndarray = (points @ (-2 * words.T) + np.square(words).sum(1)).argmin(1)
    return nearest


def _as_scales(scales: torch.Tensor) -> torch.Tensor:
    return scales.to(torch.float16)


def _avoid_zero(scales: torch.Tensor) -> torch.Tensor:
    """Return scales to divide by. A group of zeros, or one below the smallest float16, is coded as zeros."""
    scales = scales.float()
    return torch.where(scales == 0, torch.full_like(scales, torch.inf), scales)


def _find_rows(sorted_ids: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the place of each of `ids` in `sorted_ids`, and whether it is there. The place is valid in any case."""
    places = torch.searchsorted(sorted_ids, ids).clamp_max(len(sorted_ids) - 1)
    return places, sorted_ids[places] == ids
