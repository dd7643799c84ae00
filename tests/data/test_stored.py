"""Tables on disk are the tables in memory: the same rows, fingerprint, hold-outs and errors. They are whole or absent."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from zoo import data
from zoo.core.errors import DataError
from zoo.data import overlap, selection, split, stored
from zoo.data.joined import find_spans, join_tables
from zoo.data.spec import FileData, Holdout, HubData

PAIRS = {"anchor": "text", "positive": "text"}
LABELLED = {"text": "text", "label": "label"}


@pytest.fixture(autouse=True)
def on_disk(monkeypatch):
    """Send tables of 20 rows to disk, in blocks of 7 rows and files of 16."""
    monkeypatch.setattr(stored, "MEMORY_ROWS", 20)
    monkeypatch.setattr(stored, "BLOCK", 7)
    monkeypatch.setattr(stored, "SHARD_ROWS", 16)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_pairs(count, **more):
    return [{"anchor": f"query {i}", "positive": f"answer {i % 9}", "group": i // 4, **more} for i in range(count)]


def read_both(folder, section, roles=PAIRS, optional=None):
    """Read in memory and on disk."""
    tables = [
        data.read(section, roles, optional or {}, folder=folder, store=store) for store in (None, folder / "store")
    ]
    assert [table.folder is None for table in tables] == [True, False]
    return tables


def list_rows(table):
    return table.rows.select_columns(list(table.roles)).to_list()


def assert_equal(one, two):
    assert list_rows(one) == list_rows(two)
    assert (one.fingerprint, one.roles, one.inputs, one.skipped) == (
        two.fingerprint,
        two.roles,
        two.inputs,
        two.skipped,
    )


@pytest.mark.parametrize("count", [21, 28, 35, 100])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"limit": 22},
        {"where": {"positive": ["answer 1", "answer 2", "answer 3", "answer 4", "answer 5", "answer 6", "answer 7"]}},
        {"holdout": {"size": 0.2, "side": "train"}},
        {"holdout": {"size": 0.2, "side": "train", "by": "positive"}},
        {"holdout": {"size": 8, "side": "test", "by": "group"}, "limit": 5},
    ],
)
def test_a_table_on_disk_is_the_table_in_memory(tmp_path, count, fields):
    write(tmp_path / "rows.jsonl", make_pairs(count))
    section = FileData.model_validate({"source": "file", "path": "rows.jsonl", **fields})
    memory, disk = (data.read(section, PAIRS, folder=tmp_path, store=store) for store in (None, tmp_path / "store"))
    assert_equal(memory, disk)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_every_format_of_tables_goes_to_disk(tmp_path, ending):
    import pandas

    frame = pandas.DataFrame(make_pairs(50))
    {"csv": lambda p: frame.to_csv(p, index=False), "parquet": frame.to_parquet}.get(
        ending, lambda p: frame.to_json(p, orient="records", lines=True)
    )(tmp_path / f"rows.{ending}")
    assert_equal(*read_both(tmp_path, FileData(source="file", path=f"rows.{ending}")))


@pytest.mark.parametrize(
    ("label", "kind"), [(lambda i: i % 3, "int64"), (lambda i: i % 3 if i != 29 else "x", "string")]
)
def test_labels_are_whole_numbers_if_all_are(tmp_path, label, kind):
    write(tmp_path / "rows.jsonl", [{"text": f"t{i}", "label": label(i)} for i in range(40)])
    memory, disk = read_both(tmp_path, FileData(source="file", path="rows.jsonl"), LABELLED)
    assert_equal(memory, disk)
    assert disk.rows.features["label"].dtype == kind
    sides = [data.hold_out(table, Holdout(size=6, side="test"), by_class=True) for table in (memory, disk)]
    assert_equal(*sides)


def test_vectors_and_images_go_to_disk_and_vectors_of_two_sizes_are_refused(tmp_path):
    from PIL import Image

    Image.new("RGB", (2, 2), "red").save(tmp_path / "red.png")
    rows = [{"vector": [float(i), 1.0], "image": "red.png"} for i in range(30)]
    write(tmp_path / "rows.jsonl", rows)
    roles = {"vector": "vector", "image": "image"}
    memory, disk = read_both(tmp_path, FileData(source="file", path="rows.jsonl"), roles)
    assert memory.fingerprint == disk.fingerprint
    assert disk.rows[29]["image"].size == (2, 2)
    rows[29]["vector"] = [1.0]
    write(tmp_path / "rows.jsonl", rows)
    with pytest.raises(DataError, match="has vectors of 1 and of 2 components"):
        data.read(FileData(source="file", path="rows.jsonl"), roles, folder=tmp_path, store=tmp_path / "store")


def test_bad_rows_are_named_or_counted_as_in_memory_and_leave_nothing_behind(tmp_path):
    rows = make_pairs(40)
    rows[33]["positive"] = " "
    write(tmp_path / "rows.jsonl", rows)
    with pytest.raises(DataError, match=r"rows\.jsonl:row 34: positive: is empty"):
        data.read(FileData(source="file", path="rows.jsonl"), PAIRS, folder=tmp_path, store=tmp_path / "store")
    assert not list((tmp_path / "store").glob("*"))
    assert_equal(*read_both(tmp_path, FileData(source="file", path="rows.jsonl", on_bad_row="skip")))


def test_an_optional_role_that_first_appears_late_must_be_in_every_row(tmp_path):
    write(tmp_path / "rows.jsonl", [*make_pairs(120), *make_pairs(1, negative="no")])
    with pytest.raises(DataError, match="row 1: negative: is missing"):
        data.read(
            FileData(source="file", path="rows.jsonl"),
            PAIRS,
            {"negative": "text"},
            folder=tmp_path,
            store=tmp_path / "s",
        )


def test_a_table_is_opened_again_without_reading_until_its_file_changes(tmp_path, monkeypatch):
    write(tmp_path / "rows.jsonl", make_pairs(40))
    section = FileData(source="file", path="rows.jsonl")
    first = data.read(section, PAIRS, folder=tmp_path, store=tmp_path / "store")
    with monkeypatch.context() as patch:
        patch.setattr(selection, "collect_columns", None)
        again = data.read(section, PAIRS, folder=tmp_path, store=tmp_path / "store")
    assert_equal(first, again)
    write(tmp_path / "rows.jsonl", make_pairs(41))
    assert len(data.read(section, PAIRS, folder=tmp_path, store=tmp_path / "store").rows) == 41
    limited = section.model_copy(update={"limit": 25})
    assert len(data.read(limited, PAIRS, folder=tmp_path, store=tmp_path / "store").rows) == 25


def test_a_folder_that_a_killed_run_left_half_written_is_written_again(tmp_path):
    write(tmp_path / "rows.jsonl", make_pairs(40))
    section = FileData(source="file", path="rows.jsonl")
    whole = data.read(section, PAIRS, folder=tmp_path, store=tmp_path / "store")
    assert whole.folder is not None
    partial = whole.folder.with_name(f"{whole.folder.name}.partial")
    shutil.copytree(whole.folder, partial)
    (whole.folder / stored.RECORD).unlink()
    again = data.read(section, PAIRS, folder=tmp_path, store=tmp_path / "store")
    assert_equal(whole, again)
    assert [path.name for path in (tmp_path / "store").iterdir()] == [whole.folder.name]


@pytest.mark.parametrize("most_slices", [0, 2048])
def test_rows_are_filtered_alike_in_memory_and_on_disk(tmp_path, monkeypatch, most_slices):
    monkeypatch.setattr(stored, "MAX_SLICES", most_slices)
    write(tmp_path / "rows.jsonl", make_pairs(60))
    memory, disk = read_both(tmp_path, FileData(source="file", path="rows.jsonl"))
    mask = np.random.RandomState(0).rand(60) < 0.5
    filtered = [stored.filter_table(table, mask) for table in (memory, disk)]
    assert_equal(*filtered)
    for holdout in (Holdout(size=0.3, side="train", by="positive"), Holdout(size=7, side="test", seed=3)):
        assert_equal(*(data.hold_out(table, holdout) for table in filtered))
    assert_equal(stored.filter_table(disk, mask), filtered[1])


def test_joined_tables_on_disk_are_those_in_memory(tmp_path):
    for name, count in (("a", 30), ("b", 50)):
        write(tmp_path / f"{name}.jsonl", make_pairs(count))
    joined = []
    for store in (None, tmp_path / "store"):
        parts = {
            name: data.read(FileData(source="file", path=f"{name}.jsonl"), PAIRS, folder=tmp_path, store=store)
            for name in ("a", "b")
        }
        joined.append(join_tables(parts))
    assert joined[0].rows.to_list() == joined[1].rows.to_list()
    assert joined[0].fingerprint == joined[1].fingerprint
    assert find_spans(joined[1].rows) == {"a": range(30), "b": range(30, 80)}


def test_keys_of_blocks_are_the_keys_of_all_rows(tmp_path, monkeypatch):
    write(tmp_path / "rows.jsonl", make_pairs(60))
    _, disk = read_both(tmp_path, FileData(source="file", path="rows.jsonl"))
    monkeypatch.setattr(overlap, "BLOCK_ROWS", 13)
    blocks = list(overlap.iterate_row_keys(disk))
    assert [len(block) for block in blocks] == [13, 13, 13, 13, 8]
    np.testing.assert_array_equal(np.concatenate(blocks), overlap.compute_row_keys(disk))


def test_groups_have_the_same_numbers_by_text_and_by_hash():
    values = ["b", "a", "b", 1, "1", 1.0, True, "true", "c"]
    by_text = split.number_groups([split.comparison_key(value) for value in values])
    by_hash = split.number_groups(np.array([split.hash_group(value) for value in values], np.uint64))
    assert by_text.tolist() == by_hash.tolist() == [0, 1, 0, 2, 2, 2, 3, 3, 4]


# -- streams of the Hub --------------------------------------------------------------------------------------------------


def test_a_stream_of_the_hub_gives_the_rows_of_the_downloaded_data_set(tmp_path, monkeypatch):
    import datasets

    rows = [{key: pair[key] for key in ("anchor", "positive")} for pair in make_pairs(50)]
    whole = datasets.Dataset.from_list(rows)

    def load_dataset(name, config, *, revision, split, streaming=False):
        return whole.to_iterable_dataset() if streaming else whole

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr("zoo.data.sources.hub._fetch_info", lambda section: None)
    for fields in ({}, {"limit": 30}, {"holdout": Holdout(size=0.2, side="train")}):
        memory, streamed = (
            data.read(
                HubData(source="hub", name="me/rows", streaming=streaming, **fields),
                PAIRS,
                folder=tmp_path,
                store=store,
            )
            for streaming, store in ((False, None), (True, tmp_path / "store"))
        )
        assert list_rows(memory) == list_rows(streamed)
        assert memory.fingerprint == streamed.fingerprint


def test_a_small_table_makes_no_folder(tmp_path):
    write(tmp_path / "rows.jsonl", make_pairs(10))
    table = data.read(FileData(source="file", path="rows.jsonl"), PAIRS, folder=tmp_path, store=tmp_path / "store")
    assert table.folder is None
    assert not (tmp_path / "store").exists()
