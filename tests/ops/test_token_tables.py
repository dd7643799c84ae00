"""Codecs of token tables: bounds of the error, equality with a formula, and rows that stay as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.ops import tables


def make_table(rows: int, dim: int, seed: int = 0) -> torch.Tensor:
    """Rows of very different lengths, as those of rare and of frequent tokens."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.logspace(-3, 2, rows)[torch.randperm(rows, generator=generator)]
    return torch.randn(rows, dim, generator=generator) * lengths[:, None]


def decode_all(parts, codec, rows, dim):
    return tables.decode(parts, codec, torch.arange(rows), dim)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 9), dim=st.integers(1, 70), seed=st.integers(0, 99))
def test_int8_errs_by_half_a_step_of_its_stored_scale_at_most(rows, dim, seed):
    table = make_table(rows, dim, seed)
    parts = tables.encode(table, "int8")
    errors = (decode_all(parts, "int8", rows, dim) - table).abs()
    # The largest number is cut off by the error of the scale in float16: 2^-11 of it, and 2^-25 for the smallest scales.
    bound = parts["scales"].float() * 0.5 + table.abs().amax(1, keepdim=True) * 2**-10 + 128 * 2**-25
    assert (errors <= bound).all()


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 9), dim=st.integers(1, 70), seed=st.integers(0, 99))
def test_int4_loses_no_more_in_any_group_than_a_scale_from_the_extreme(rows, dim, seed):
    table = make_table(rows, dim, seed)
    decoded = decode_all(tables.encode(table, "int4"), "int4", rows, dim)
    for row in range(rows):
        for start in range(0, dim, 32):
            group = table[row, start : start + 32].double().numpy()
            extreme = group[np.abs(group).argmax()]
            scale = float(np.float16(np.float32(extreme) / np.float32(-8)))
            plain = np.clip(np.round(group / scale), -8, 7) * scale if scale else group * 0
            error = np.square(decoded[row, start : start + 32].numpy() - group).sum()
            assert error <= np.square(plain - group).sum() * (1 + 1e-3) + 1e-12


def test_pq_gives_each_part_the_word_that_is_nearest_to_it():
    table = torch.randn(400, 10, generator=torch.Generator().manual_seed(1))
    parts = tables.encode(table, "pq")
    blocks = torch.nn.functional.pad(table, (0, 2)).view(400, 3, 4)
    distances = torch.cdist(blocks.transpose(0, 1), parts["words"].float())
    chosen = distances.gather(2, parts["codes"].T.long()[..., None])[..., 0]
    torch.testing.assert_close(chosen, distances.min(2).values)
    decoded = decode_all(parts, "pq", 400, 10)
    assert (decoded - table).square().mean() < 0.1 * table.square().mean()


def test_pq_of_a_table_with_few_different_rows_is_exact():
    table = torch.randn(3, 8, generator=torch.Generator().manual_seed(1)).half().float()[[0, 1, 2, 0, 1]]
    parts = tables.encode(table, "pq")
    assert torch.equal(decode_all(parts, "pq", 5, 8), table)


@pytest.mark.parametrize("codec", tables.CODECS)
def test_kept_rows_come_back_bit_for_bit_and_finer_rows_as_int8(codec):
    table = make_table(300, 40)
    parts = tables.encode(table, codec, kept=[7, 2], finer=[9, 7])
    decoded = decode_all(parts, codec, 300, 40)
    assert torch.equal(decoded[[2, 7]], table[[2, 7]])
    int8 = decode_all(tables.encode(table, "int8"), "int8", 300, 40)
    assert torch.equal(decoded[9], int8[9])
    plain = decode_all(tables.encode(table, codec), codec, 300, 40)
    others = [row for row in range(300) if row not in (2, 7, 9)]
    assert torch.equal(decoded[others], plain[others])


@pytest.mark.parametrize("codec", tables.CODECS)
def test_a_look_up_equals_rows_of_the_whole_table_and_has_the_dtype_of_kept_rows(codec):
    table = make_table(50, 36)
    parts = tables.encode(table, codec, kept=[0])
    ids = torch.tensor([[3, 0, 49], [3, 3, 1]])
    rows = tables.decode(parts, codec, ids, 36)
    assert torch.equal(rows, decode_all(parts, codec, 50, 36)[ids])
    half = parts | {"kept_rows": parts["kept_rows"].bfloat16()}
    assert tables.decode(half, codec, ids, 36).dtype == torch.bfloat16


@pytest.mark.parametrize("codec", tables.CODECS)
@pytest.mark.parametrize("finer", [(), (1, 4)])
def test_shapes_and_dtypes_are_those_that_are_described(codec, finer):
    parts = tables.encode(make_table(6, 37), codec, kept=[0, 2], finer=finer)
    assert {name: tuple(part.shape) for name, part in parts.items()} == tables.describe_shapes(
        codec, 6, 37, 2, len(finer)
    )
    assert all(part.dtype == tables.get_dtype(name) for name, part in parts.items())


@pytest.mark.parametrize(
    ("codec", "bits"), [("int8", 8 + 16 / 384), ("int4", 4.5), ("pq", 2 + 96 * 256 * 4 * 16 / (4096 * 384))]
)
def test_bytes_are_those_of_the_bits_of_a_number(codec, bits):
    parts = tables.encode(torch.randn(4096, 384, generator=torch.Generator().manual_seed(0)), codec)
    assert tables.count_bytes(parts) == 4096 * 384 * bits / 8


def test_a_row_of_zeros_stays_zeros_and_has_no_error():
    table = torch.zeros(3, 8)
    table[1] = 1.0
    for codec in tables.CODECS:
        decoded = decode_all(tables.encode(table, codec), codec, 3, 8)
        assert torch.isfinite(decoded).all()
        assert tables.compute_row_errors(table, decoded)[0] == 0


def test_the_error_of_a_row_is_relative_to_its_squared_norm():
    table, decoded = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[3.0, 3.0], [1.0, 0.0]])
    assert tables.compute_row_errors(table, decoded).tolist() == pytest.approx([1 / 25, 0.0])


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (torch.tensor([[float("nan")]]), {}, "finite"),
        (torch.zeros(0, 4), {}, "finite"),
        (torch.full((1, 4), 1e9), {}, "too large"),
        (torch.ones(2, 4), {"kept": [2]}, "rows 0 to 1"),
        (torch.ones(2, 4), {"finer": [-1]}, "rows 0 to 1"),
    ],
)
def test_a_table_that_cannot_be_coded_is_refused(table, options, message):
    with pytest.raises(ValueError, match=message):
        tables.encode(table, "int8", **options)
    with pytest.raises(ValueError, match="not one of"):
        tables.encode(torch.ones(2, 4), "int2")
