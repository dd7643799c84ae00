"""Every size that a file claims is held against the bytes that are there, and nothing outside the data folder is read."""

from __future__ import annotations

import gzip
import io
import json
import os
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.lib import format as npy
from pydantic import TypeAdapter

from zoo import data
from zoo.core import confinement
from zoo.core.errors import DataError
from zoo.data import limits, split
from zoo.data.formats import parquet_files, parquet_footer
from zoo.data.spec import Data
from zoo.hub import model_references

TEXT = {"text": "text"}


def read(folder, path, need=TEXT, **fields):
    section = TypeAdapter(Data).validate_python({"source": "file", "path": str(path), **fields})
    return data.read(section, need, folder=folder)


def make_npy_header(shape, dtype="|u1", version=(1, 0)) -> bytes:
    buffer = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    (npy.write_array_header_1_0 if version == (1, 0) else npy.write_array_header_2_0)(buffer, header)
    return buffer.getvalue()


def make_idx_header(*sizes) -> bytes:
    return bytes([0, 0, 8, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes)


# -- claims ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.npy", make_npy_header((10**9, 8), "<f8"), "the header claims 64000000000 bytes, but only 0 follow"),
        ("images.npy", make_npy_header((2, 40_000, 40_000)), "the header claims"),
        ("nothing.npy", make_npy_header((10**9, 0), "<f8"), "holds nothing"),
        ("negative.npy", make_npy_header((-5, 3), "<f8"), "holds nothing"),
        ("empty.npy", make_npy_header((10**9,), "<U0"), "holds nothing"),
        ("header.npy", b"\x93NUMPY\2\0\xff\xff\xff\xff{", "a header that is too long"),
        ("token.npy", b"\x93NUMPY\1\0\x76\0{'descr': '<f8', 'shape': ((, }" + b" " * 80, "cannot be read"),
        ("count-images-idx3-ubyte", make_idx_header(4 * 10**9, 8, 8), "ends after 0 of the 4000000000 images"),
        ("size-images-idx3-ubyte", make_idx_header(1, 40_000, 40_000), "an image is larger than 16 MB"),
        ("x-images-idx3-ubyte.gz", gzip.compress(make_idx_header(4 * 10**9, 8, 8)), "more than its .* bytes can hold"),
        ("columns.csv", ",".join(f"c{n}" for n in range(200_000)).encode() + b"\n", "has 200,000 columns"),
        ("columns.jsonl", json.dumps({f"c{n}": 1 for n in range(20_000)}).encode() + b"\n", "has 20,000 columns"),
    ],
)
def test_what_a_header_claims_must_be_there(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    for needs in ({"image": "image"}, {"image": "image", "label": "label"}):
        with pytest.raises(DataError, match=message):
            read(tmp_path, name, needs, on_bad_row="skip", limit=5)


def test_what_an_entry_of_an_npz_file_claims_must_be_possible(tmp_path):
    content = make_npy_header((4,), "<f8") + bytes(32)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_BZIP2) as file:
        file.writestr("x.npy", content)
    with pytest.raises(DataError, match="compressed in another way than numpy does it"):
        read(tmp_path, "a.npz", {"x": "number"})
    with zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x.npy", make_npy_header((10**9,), "<f8") + bytes(32))
    with pytest.raises(DataError, match="the header claims 8000000000 bytes, but only 32 follow"):
        read(tmp_path, "b.npz", {"x": "number"})
    with zipfile.ZipFile(tmp_path / "c.npz", "w", zipfile.ZIP_STORED) as file:
        file.writestr("x.npy", content)
    whole = (tmp_path / "c.npz").read_bytes()
    directory = whole.rindex(b"PK\1\2")
    for position, flags in ((6, b"\1"), (directory + 8, b"\1")):  # the flag "encrypted", in both headers
        whole = whole[:position] + flags + whole[position + 1 :]
    (tmp_path / "c.npz").write_bytes(whole)
    with pytest.raises(DataError, match="x is encrypted"):
        read(tmp_path, "c.npz", {"x": "number"})
    claim = (10**9).to_bytes(4, "little")
    with zipfile.ZipFile(tmp_path / "d.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x.npy", content)
    whole = (tmp_path / "d.npz").read_bytes()
    size = whole.rindex(b"PK\1\2") + 24
    (tmp_path / "d.npz").write_bytes(whole[:size] + claim + whole[size + 4 :])
    with pytest.raises(DataError, match="claims 1000000000 bytes, more than .* compressed ones can hold"):
        read(tmp_path, "d.npz", {"x": "number"})


def test_what_an_hdf5_file_claims_must_be_there(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images", (10**12, 8, 8), "u1", chunks=(1000, 8, 8))
    with pytest.raises(DataError, match="the header claims 64000000000000 bytes, but only 0 follow"):
        read(tmp_path, "a.h5", {"image": "image"})
    with h5py.File(tmp_path / "b.h5", "w") as file:
        images = file.create_dataset("images", (400, 1000, 1000), "u1", chunks=(400, 1000, 1000), compression="gzip")
        images[:1, :1, :1] = 1
    with pytest.raises(DataError, match="in chunks of more than 128 MB"):
        read(tmp_path, "b.h5", {"image": "image"})


def test_a_parquet_file_cannot_claim_more_than_it_can_hold(tmp_path):
    array = pa.DictionaryArray.from_arrays(pa.array([0] * 100, pa.int32()), pa.array(["x" * (1 << 22)]))
    pq.write_table(pa.table({"text": array}), tmp_path / "a.parquet")
    assert len(read(tmp_path, "a.parquet", limit=2).rows) == 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_files, "MAX_GROWTH", 1 << 23)
        patch.setattr(parquet_files, "MAX_RATIO", 1)
        with pytest.raises(DataError, match=r"damaged after \d+ of 100 rows \(its rows take more than 8 MB\)"):
            read(tmp_path, "a.parquet")
    file = parquet_files._open_parquet(tmp_path / "a.parquet")
    assert parquet_files._choose_batch_sizes(tmp_path / "a.parquet", file)[0] <= 32
    pq.write_table(pa.table({"text": ["x" * (17 << 20)]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match="a cell of column 1 is larger than 16 MB"):
        read(tmp_path, "b.parquet")
    pq.write_table(pa.table({"n": pa.array([1] * 2_000_000, pa.int8())}), tmp_path / "c.parquet")
    with pytest.raises(DataError, match="claims 2000000 rows, more than its .* bytes can hold"):
        read(tmp_path, "c.parquet", {"n": "number"})
    deep = pa.int8()
    for _ in range(40):
        deep = pa.list_(deep)
    pq.write_table(pa.table({"text": ["a"], "n": pa.nulls(1, deep)}), tmp_path / "d.parquet")
    with pytest.raises(DataError, match="nested more than 32 levels"):
        read(tmp_path, "d.parquet")


def test_the_sizes_of_a_footer_are_those_that_pyarrow_reads(tmp_path):
    rows = [
        {"text": f"text {n % 7}" * 9, "n": n, "list": [f"{n}", "a"], "pair": {"x": 0.5, "y": b"z"}} for n in range(900)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=400, compression="zstd")
    metadata = pq.read_metadata(tmp_path / "a.parquet")
    groups = parquet_footer.read_column_chunks(tmp_path / "a.parquet")
    assert [len(chunks) for chunks in groups] == [metadata.num_columns] * metadata.num_row_groups == [5] * 3
    for group, chunks in enumerate(groups):
        for index, chunk in enumerate(chunks):
            column = metadata.row_group(group).column(index)
            expected = (column.num_values, column.total_uncompressed_size)
            assert (chunk.num_values, chunk.uncompressed_size) == expected
            assert 0 < chunk.dictionary_size < chunk.uncompressed_size
    text = groups[0][0]
    assert text.dictionary_size == 7 * (4 + len(rows[0]["text"]))  # PLAIN: a length of four bytes before each text


def test_rows_of_a_parquet_file_are_read_by_their_position(tmp_path):
    rows = [{"text": f"text {n}"} for n in range(50)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=7)
    positions = np.array([0, 6, 7, 30, 49])
    items = list(parquet_files.read_rows(tmp_path / "a.parquet", positions=positions))
    assert [row for _, row in items] == [rows[position] for position in positions]
    assert [location.row - 1 for location, _ in items] == positions.tolist()


# -- large cells, deep cells and many columns --------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "json", "jsonl", "parquet", "csv.gz"])
def test_a_large_cell_is_refused_unless_the_limit_is_raised(tmp_path, ending):
    size = (1 << 20) + 1
    path = tmp_path / f"x.{ending}"
    rows = [{"text": "a"}, {"text": "b" * size}, {"text": "c"}]
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        texts = [row["text"] for row in rows]
        lines = ["text", *texts] if "csv" in ending else [json.dumps(row) for row in rows]
        content = (json.dumps(rows) if ending == "json" else "\n".join(lines)).encode()
        path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    with pytest.raises(DataError, match="is larger than 1 MB; if this is right, raise `max_cell_mb`"):
        read(tmp_path, path.name, max_cell_mb=1)
    assert len(read(tmp_path, path.name, max_cell_mb=2).rows) == 3
    if ending in ("jsonl", "parquet"):  # in other formats nobody knows where the next row begins
        assert read(tmp_path, path.name, max_cell_mb=1, on_bad_row="skip").rows["text"][:] == ["a", "c"]


def test_a_long_line_is_not_read_before_it_is_refused():
    asked = []

    def read_line(size):
        asked.append(size)
        return "x" * size

    lines = limits.BoundedLines(read_line, 1000)
    with pytest.raises(limits.TooLargeError):
        next(lines)
    assert asked == [1001]


def test_nested_records_are_refused(tmp_path):
    def nest(depth):
        return '{"text": "a", "n": ' + "[" * depth + "]" * depth + "}"

    for depth in (32, 100, 890, 100_000):
        (tmp_path / "x.jsonl").write_text(nest(depth) + '\n{"text": "b"}\n')
        (tmp_path / "x.json").write_text(f'[{{"text": "b"}}, {nest(depth)}]')
        table = read(tmp_path, "x.jsonl", on_bad_row="skip")
        assert table.rows["text"][:] == ["b"]
        with pytest.raises(DataError, match="nested more than 32 levels|nested too deeply"):
            read(tmp_path, "x.json")
    (tmp_path / "x.jsonl").write_text(nest(30))
    assert len(read(tmp_path, "x.jsonl").rows) == 1


def test_a_new_column_in_every_row_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.data.selection.MAX_ABSENT_CELLS", 1000)
    (tmp_path / "x.jsonl").write_text("".join(f'{{"text": "a", "c{n}": 1}}\n' for n in range(200)))
    with pytest.raises(DataError, match=r"x\.jsonl:row \d+: the rows have \d+ different columns"):
        read(tmp_path, "x.jsonl")
    (tmp_path / "x.jsonl").write_text("".join(f'{{"text": "a", "c{n % 9}": 1}}\n' for n in range(500)))
    assert len(read(tmp_path, "x.jsonl").rows) == 500


def test_a_column_name_that_arrow_cannot_hold_is_left_out(tmp_path):
    (tmp_path / "x.tsv").write_bytes(b"text\tv\0e\na\tb\n")
    assert read(tmp_path, "x.tsv").rows.to_list() == [{"text": "a"}]


# -- limit -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "jsonl", "json"])
def test_a_limit_keeps_only_its_rows_in_memory(tmp_path, monkeypatch, ending):
    rows = [{"text": f"text {n}"} for n in range(300)]
    lines = ["text", *(row["text"] for row in rows)] if ending == "csv" else [json.dumps(row) for row in rows]
    (tmp_path / f"x.{ending}").write_text(json.dumps(rows) if ending == "json" else "\n".join(lines))
    expected = [rows[position]["text"] for position in split.draw_positions(300, 5)]
    converted = []
    original = data.kinds.convert_value

    def convert_value(kind, value, *rest):
        converted.append(value)
        return original(kind, value, *rest)

    monkeypatch.setattr(data.kinds, "convert_value", convert_value)
    assert read(tmp_path, f"x.{ending}", limit=5).rows["text"][:] == expected
    assert converted == expected


def test_a_limit_of_a_huge_table_is_drawn_without_a_permutation(monkeypatch):
    monkeypatch.setattr(split, "MAX_PERMUTATION", 10)
    positions = split.draw_positions(10**12, 7)
    assert positions.tolist() == sorted(set(positions.tolist()))
    assert len(positions) == 7
    assert split.draw_positions(12, 12).tolist() == list(range(12))


# -- what is outside ---------------------------------------------------------------------------------------------------


def test_an_hdf5_file_cannot_point_to_another_file(tmp_path):
    (tmp_path / "secret.txt").write_bytes(b"secret" * 4)
    with h5py.File(tmp_path / "external.h5", "w") as file:
        file.create_dataset("text", (4,), "S6", external=[("secret.txt", 0, 24)])
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.arange(4)
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout(shape=(4,), dtype="i8")
        layout[:] = h5py.VirtualSource("other.h5", "x", shape=(4,))
        file.create_virtual_dataset("n", layout)
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["n"] = np.arange(4)
        file["link"] = h5py.ExternalLink("other.h5", "/x")
    with h5py.File(tmp_path / "soft.h5", "w") as file:
        file["n"] = h5py.SoftLink("/n")
    with h5py.File(tmp_path / "reference.h5", "w") as file:
        file["n"] = np.arange(4)
        file["r"] = np.array([file["n"].ref] * 4, dtype=h5py.ref_dtype)
    for name, message in (
        ("external", "text is stored in another file"),
        ("virtual", "n is stored in another file"),
        ("link", "link is a link"),
        ("soft", "n is a link"),
        ("reference", "r holds references"),
    ):
        with pytest.raises(DataError, match=message):
            read(tmp_path, f"{name}.h5", {"n": "number"})


@pytest.mark.parametrize("kind", ["image", "pictures"])
def test_an_image_is_a_regular_file_below_the_data_folder(tmp_path, kind):
    from PIL import Image

    folder = tmp_path / "data"
    folder.mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "outside.png")
    Image.new("RGB", (2, 2)).save(folder / "inside.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    for cell, message in (
        ("../outside.png", "is not below .*data; set `images:` to the folder of all images"),
        (str(tmp_path / "outside.png"), "is not below"),
        ("/dev/zero", "is not below"),
        ("pipe.png", "is not a regular file"),
        ("folder.png", "is not a regular file"),
        ("none.png", "No such file"),
    ):
        (folder / "x.csv").write_text(f"image\n{cell}\n")
        with pytest.raises(DataError, match=message):
            read(folder, "x.csv", {"image": kind})
    (folder / "x.csv").write_text("image\n../data/inside.png\n")
    assert len(read(folder, "x.csv", {"image": kind}).rows) == 1
    (folder / "x.csv").write_text("image\noutside.png\n")
    assert len(read(folder, "x.csv", {"image": kind}, images="..").rows) == 1


def test_devices_and_pipes_are_no_data(tmp_path):
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.csv")
    for name in ("zero.csv", "pipe.csv"):
        with pytest.raises(DataError, match=f"{name}: is not a regular file"):
            read(tmp_path, name)
    with pytest.raises(DataError, match="matches no files"):
        read(tmp_path, "*.csv")


def test_a_confined_recipe_reads_nothing_outside_its_folder(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    (folder / "deep").mkdir(parents=True)
    for path in (tmp_path / "secret.csv", folder / "own.csv"):
        path.write_text("text\na\n")
    (folder / "deep" / "link.csv").symlink_to(tmp_path / "secret.csv")
    (folder / "way").symlink_to(tmp_path)
    (folder / "inner.csv").symlink_to("own.csv")
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    for path in ("deep/link.csv", "deep/*.csv", "deep", "way/secret.csv", "way/*.csv", "way"):
        assert read(folder, path).rows["text"][0] == "a"
        with (
            confinement.confine_to(folder),
            pytest.raises(DataError, match="which a recipe from the Hub may not leave"),
        ):
            read(folder, path)
    for path in ("$ZOO_DATA/secret.csv", "${ZOO_DATA}/secret.csv", "~/secret.csv"):
        with confinement.confine_to(folder), pytest.raises(DataError, match="there is no such file"):
            read(folder, path)
    with confinement.confine_to(folder):
        for path in ("own.csv", "inner.csv", "$ZOO_DATA/own.csv"):  # the variable stands for the folder
            assert len(read(folder, path).rows) == 1


def test_a_confined_recipe_names_no_folder_of_the_working_directory(tmp_path, monkeypatch):
    for folder in ("work/model", "work/package", "data/model"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    assert model_references.locate("package", tmp_path / "data") == Path("package")
    with confinement.confine_to(tmp_path / "data"):
        assert model_references.locate("package", tmp_path / "data") is None
        assert model_references.locate("model") == tmp_path / "data" / "model"


def test_an_image_of_a_confined_recipe_may_not_be_a_link_out_of_the_folder(tmp_path):
    from PIL import Image

    (tmp_path / "data").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "outside.png")
    (tmp_path / "data" / "x.png").symlink_to(tmp_path / "outside.png")
    (tmp_path / "data" / "x.csv").write_text("image\nx.png\n")
    assert len(read(tmp_path / "data", "x.csv", {"image": "image"}).rows) == 1
    with confinement.confine_to(tmp_path / "data"), pytest.raises(DataError, match="also not through a link"):
        read(tmp_path / "data", "x.csv", {"image": "image"}, on_bad_row="skip")
