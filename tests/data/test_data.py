"""`zoo.data`: column names, filters, kinds, hold-outs and fingerprints; the hub and builtin sources."""

import importlib.util
import io
import itertools
import json
import subprocess
import sys
import warnings
from collections import Counter
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import datasets
import huggingface_hub
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from zoo import data
from zoo.core.errors import DataError, DataWarning
from zoo.data import kinds, split
from zoo.data.sources import builtin
from zoo.data.spec import Data, Holdout

PAIR = {"anchor": "text", "positive": "text"}


def section(**fields):
    return TypeAdapter(Data).validate_python(fields)


def write(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def pairs(tmp_path):
    """60 rows: 20 topics of three."""
    rows = [
        {"a": f"text {n}", "b": f"other {n}", "topic": n // 3, "split": "test" if n % 2 else "train"} for n in range(60)
    ]
    write(tmp_path / "pairs.jsonl", *rows)

    def read(need=PAIR, optional=None, **fields):
        fields = {"source": "file", "path": "pairs.jsonl", "columns": {"anchor": "a", "positive": "b"}, **fields}
        return data.read(section(**fields), need, optional or {}, folder=tmp_path)

    return read


# -- columns and where ---------------------------------------------------------------------------------------------


def test_roles_are_renamed_and_other_columns_keep_their_names(pairs):
    table = pairs()
    assert set(table.rows.column_names) == {"anchor", "positive", "topic", "split"}
    assert table.rows[7] == {"anchor": "text 7", "positive": "other 7", "topic": 2, "split": "test"}
    assert table.roles == ("anchor", "positive")


def test_a_role_wins_over_a_column_of_its_name_and_columns_may_swap(tmp_path):
    write(tmp_path / "x.jsonl", {"a": "first", "b": "second"})
    swapped = data.read(
        section(source="file", path="x.jsonl", columns={"a": "b", "b": "a"}), {"a": "text"}, folder=tmp_path
    )
    assert swapped.rows[0] == {"a": "second", "b": "first"}
    over = data.read(section(source="file", path="x.jsonl", columns={"a": "b"}), {"a": "text"}, folder=tmp_path)
    assert over.rows[0] == {"a": "second"}


def test_an_optional_role_can_be_left_out(tmp_path):
    write(tmp_path / "x.jsonl", {"text": "a", "title": ""}, {"text": "b", "title": 3})
    optional = {"title": "text"}
    table = data.read(
        section(source="file", path="x.jsonl", columns={"title": None}), {"text": "text"}, optional, folder=tmp_path
    )
    assert table.rows.to_list() == [{"text": "a"}, {"text": "b"}]
    needed = section(source="file", path="x.jsonl", columns={"text": None})
    [(path, message)] = data.problems(needed, {"text": "text"}, folder=tmp_path)
    assert (path, message) == (("columns", "text"), "is needed, so it cannot be left out; name its column")


def test_a_column_that_happens_to_bear_the_name_of_a_role_does_not_fill_it(tmp_path):
    write(tmp_path / "x.jsonl", {"name": "a", "image": "x.png", "text": 7, "score": 2})
    required, optional = {}, {"text": "text", "image": "image", "score": "number"}
    source = section(source="file", path="x.jsonl", columns={"text": "name"})
    assert data.find_roles(source, required, optional, folder=tmp_path) == {"text": "name"}
    with pytest.warns(DataWarning, match="the column 'image' does not fill the role image.*add image: image to use it"):
        table = data.read(source, required, optional, folder=tmp_path)
    assert table.roles == ("text",)
    assert table.rows["image"][:] == ["x.png"]
    source = section(source="file", path="x.jsonl", columns={"text": "name", "score": "score", "image": None})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert data.read(source, required, optional, folder=tmp_path).roles == ("score", "text")
    source = section(source="file", path="x.jsonl", columns={"shown": "text"})  # this is no role, so nothing is said
    assert data.find_roles(source, required, optional, folder=tmp_path) == {"image": "image", "score": "score"}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"split": "test"}, 30),
        ({"topic": 3}, 3),
        ({"topic": "3"}, 3),
        ({"topic": [3, 4], "split": "train"}, 3),
        ({"anchor": "text 5"}, 1),
        ({"a": "text 5"}, 1),  # by its name in the data
    ],
)
def test_where_keeps_the_rows_with_one_of_the_values(pairs, where, expected):
    assert len(pairs(where=where).rows) == expected


@pytest.mark.parametrize("value", ["true", "True"])
def test_where_true_accepts_the_spellings_of_csv(tmp_path, value):
    (tmp_path / "x.csv").write_text(f"text,good\nyes,{value}\nno,false\nnone,\n")
    table = data.read(section(source="file", path="x.csv", where={"good": True}), {"text": "text"}, folder=tmp_path)
    assert table.rows["text"][:] == ["yes"]


def test_where_is_applied_before_rows_are_checked(tmp_path):
    write(tmp_path / "x.jsonl", {"text": "", "lang": "de"}, {"text": "hello", "lang": "en"})
    table = data.read(section(source="file", path="x.jsonl", where={"lang": "en"}), {"text": "text"}, folder=tmp_path)
    assert len(table.rows) == 1
    assert table.skipped == ()


def test_no_rows_left_is_an_error_that_says_why(pairs):
    with pytest.raises(DataError, match=r"pairs\.jsonl: no rows are left after where \{'topic': 99\}"):
        pairs(where={"topic": 99})


# -- kinds ---------------------------------------------------------------------------------------------------------

PIXEL = io.BytesIO()
Image.new("RGB", (2, 2)).save(PIXEL, format="PNG")


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("text", " 007 ", " 007 "),
        ("number", "2.5", 2.5),
        ("number", 3, 3.0),
        ("number", "-1e-3", -0.001),
        ("texts", ["a", "b"], ["a", "b"]),
        ("texts", '["a", "b"]', ["a", "b"]),
        ("label", "spam", "spam"),
        ("label", True, 1),
        ("label", 2.0, 2),
        ("label", Decimal("2"), 2),
        ("label", Decimal("2.00"), 2),
        ("id", Decimal("7"), "7"),
        ("id", 2**64 - 1, str(2**64 - 1)),
        ("number", 2**53 + 2, 2.0**53 + 2),
        ("id", 7, "7"),
        ("id", "007", "007"),
        ("ids", None, []),
        ("ids", " ", []),
        ("ids", [], []),
        ("ids", "007", ["007"]),
        ("ids", 7, ["7"]),
        ("ids", [7, "a", 7], ["7", "a"]),
        ("ids", '["a", "b"]', ["a", "b"]),
        ("image", PIXEL.getvalue(), {"bytes": PIXEL.getvalue(), "path": None}),
        ("image", {"bytes": PIXEL.getvalue(), "path": "x.png"}, {"bytes": PIXEL.getvalue(), "path": None}),
    ],
)
def test_good_values_take_their_canonical_form(kind, value, expected):
    converted = kinds.convert_value(kind, value, Path())
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("kind", "value", "what"),
    [
        *((kind, None, "is missing") for kind in ("text", "texts", "number", "label", "id", "image")),
        ("text", "", "is empty"),
        ("text", " \t\n\u2003", "is empty"),
        ("text", 7, "is 7, not text"),
        ("text", ["a"], "is a list, not text"),
        ("text", "\ud800", "surrogate"),
        ("number", "high", "is 'high', not a number"),
        ("number", "", "is empty"),
        ("number", True, "is True, not a number"),
        ("number", "1_000", "not a number"),
        ("number", float("nan"), "not a finite number"),
        ("number", "inf", "not a finite number"),
        ("number", 10**400, "not a number"),
        ("texts", [], "is an empty list"),
        ("texts", ["a", " "], "item 2 is empty"),
        ("texts", "a; b", "JSON list"),
        ("texts", {"a": 1}, "is an object"),
        ("label", 0.5, "is 0.5"),
        ("label", "", "is empty"),
        ("label", float("inf"), "is inf"),
        ("label", 2.0**53, "is not exact; write it as a whole number or as text"),
        ("label", Decimal("1.5"), "not a string or a whole number"),
        ("label", Decimal("NaN"), "not a string or a whole number"),
        ("id", 1e16, "is not exact"),
        ("number", 2**53 + 1, "does not hold exactly"),
        ("number", str(2**53 + 1), "does not hold exactly"),
        ("vector", [1.0, -1e39], "holds -1e[+]39, which is beyond 32-bit"),
        ("id", False, "is False"),
        ("ids", ["a", ""], "item 2 is empty"),
        ("ids", "[a", "begins as a JSON list"),
        ("ids", {"a": 1}, "item 1 is an object"),
        ("image", b"not an image", "Pillow"),
        ("image", "missing.png", "No such file"),
        ("image", 3, "not an image"),
    ],
)
def test_bad_values_are_described(kind, value, what):
    with pytest.raises(ValueError, match=what):
        kinds.convert_value(kind, value, Path("folder"))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["0", "1", "-2"], [0, 1, -2]),
        ([0, "1"], [0, 1]),
        (["007", "1"], ["007", "1"]),
        ([1, "spam"], ["1", "spam"]),
        (["1.0", "2"], ["1.0", "2"]),
        (["9" * 30, "2"], ["9" * 30, "2"]),
        ([str(2**63), "2"], [str(2**63), "2"]),
        ([2**63, 2], [str(2**63), "2"]),
        ([str(-(2**63)), "2"], [-(2**63), 2]),
    ],
)
def test_labels_are_all_integers_or_all_strings(values, expected):
    assert kinds.unify_labels(values) == expected


@pytest.mark.parametrize(
    ("labels", "classes", "expected"),
    [
        ([7, 8], ["7", "8", "other"], ["7", "8"]),
        (["7", "007", "other"], [7, 8], [7, "007", "other"]),
        ([7], [7], [7]),
        (["a"], ["a"], ["a"]),
    ],
)
def test_labels_of_one_file_take_the_type_of_the_classes_of_another(labels, classes, expected):
    assert kinds.match_labels(labels, classes) == expected


def test_numbers_of_a_database_are_read_as_from_csv(tmp_path):
    columns = {"y": [Decimal("1.00"), Decimal("2.00")], "id": pa.array([2**64 - 1, 2**63], pa.uint64())}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    (tmp_path / "x.csv").write_text(f"y,id\n1,{2**64 - 1}\n2,{2**63}\n")
    tables = [
        data.read(section(source="file", path=path), {"y": "label", "id": "id"}, folder=tmp_path)
        for path in ("x.parquet", "x.csv")
    ]
    assert tables[0].rows.to_list() == tables[1].rows.to_list()
    assert tables[0].fingerprint == tables[1].fingerprint


def test_labels_agree_on_both_sides_of_a_holdout(tmp_path):
    write(tmp_path / "x.jsonl", *({"y": n} for n in range(20)), {"y": "other"})
    train, test = (
        data.read(
            section(source="file", path="x.jsonl", holdout={"size": 5, "side": side}), {"y": "label"}, folder=tmp_path
        )
        for side in ("train", "test")
    )
    assert train.rows.features == test.rows.features == {"y": datasets.Value("string")}


def test_images_are_decoded_from_files_beside_the_data(tmp_path):
    (tmp_path / "pixel.png").write_bytes(PIXEL.getvalue())
    (tmp_path / "x.csv").write_text("image,name\npixel.png,black\n")
    table = data.read(section(source="file", path="x.csv"), {"image": "image"}, folder=tmp_path)
    assert table.rows[0]["image"].size == (2, 2)
    assert table.rows[0]["name"] == "black"


# -- bad rows ------------------------------------------------------------------------------------------------------


def test_bad_rows_are_named_and_counted(tmp_path):
    rows = [{"text": "fine", "score": 1}] + [{"text": " ", "score": 1}] * 4 + [{"text": "fine", "score": None}] * 4
    path = write(tmp_path / "x.jsonl", *rows)
    need = {"text": "text", "score": "number"}
    with pytest.raises(DataError, match="8 bad rows") as excinfo:
        data.read(section(source="file", path="x.jsonl"), need, folder=tmp_path)
    assert excinfo.value.problems[0] == f"{path}:row 2: text: is empty"
    assert excinfo.value.problems[4] == f"{path}:row 6: score: is missing"
    assert excinfo.value.problems[5:] == ("8 bad rows (the first 5 are listed); fix the data, or set on_bad_row: skip",)
    table = data.read(section(source="file", path="x.jsonl", on_bad_row="skip"), need, folder=tmp_path)
    assert table.rows.to_list() == [{"text": "fine", "score": 1.0}]
    assert len(table.skipped) == 8
    assert table.skipped[7] == f"{path}:row 9: score: is missing"


def test_nothing_but_bad_rows_is_an_error_even_when_they_are_skipped(tmp_path):
    write(tmp_path / "x.jsonl", {"text": ""})
    with pytest.raises(
        DataError, match=r"no rows are left after skipping 1 bad rows; the first is .*row 1: text: is empty"
    ):
        data.read(section(source="file", path="x.jsonl", on_bad_row="skip"), {"text": "text"}, folder=tmp_path)


def test_an_optional_role_is_checked_when_it_is_there(pairs, tmp_path):
    optional = {"negative": "text"}
    assert "negative" not in pairs(optional=optional).roles
    write(tmp_path / "pairs.jsonl", {"a": "x", "b": "y", "negative": "z"}, {"a": "x", "b": "y"})
    with pytest.raises(DataError, match="row 2: negative: is missing"):
        pairs(optional=optional, columns={"anchor": "a", "positive": "b", "negative": "negative"})


def test_an_optional_role_that_shows_up_late_is_not_overlooked(pairs, tmp_path):
    rows = [{"anchor": "x", "positive": "y"}] * 500 + [{"anchor": "x", "positive": "y", "negative": "z"}]
    write(tmp_path / "pairs.jsonl", *rows)
    table = pairs(optional={"negative": "text"}, on_bad_row="skip", columns={})
    assert table.rows.to_list() == [{"anchor": "x", "positive": "y", "negative": "z"}]
    assert len(table.skipped) == 500


def test_other_columns_of_mixed_types_are_kept_as_json(tmp_path):
    rows = [
        {"text": "a", "extra": 1},
        {"text": "b", "extra": {"deep": "ü"}},
        {"text": "c"},
        {"text": "d", "huge": 10**30},
    ]
    write(tmp_path / "x.jsonl", *rows)
    table = data.read(section(source="file", path="x.jsonl"), {"text": "text"}, folder=tmp_path)
    values = [None if value is None else json.loads(value) for value in table.rows["extra"]]
    assert values == [row.get("extra") for row in rows]


# -- holdout and limit ---------------------------------------------------------------------------------------------


@given(st.integers(2, 300), st.floats(0.01, 0.99), st.integers(0, 2**32 - 1))
def test_a_share_is_held_out_to_the_nearest_row(count, size, seed):
    mask = split.draw_holdout_mask(count, Holdout(size=size, side="train", seed=seed))
    assert 0 < mask.sum() < count
    assert abs(mask.sum() - size * count) <= 1


@given(st.lists(st.integers(0, 6), min_size=2, max_size=80), st.floats(0.01, 0.99), st.integers(0, 99))
def test_groups_stay_together_and_neither_side_is_empty(groups, size, seed):
    holdout = Holdout(size=size, side="train", by="group", seed=seed)
    sizes = Counter(groups)
    if len(sizes) == 1:
        with pytest.raises(DataError, match="same group"):
            split.draw_holdout_mask(len(groups), holdout, groups)
        return
    mask = split.draw_holdout_mask(len(groups), holdout, groups)
    test_groups = {group for group, is_test in zip(groups, mask, strict=True) if is_test}
    assert test_groups.isdisjoint(group for group, is_test in zip(groups, mask, strict=True) if not is_test)
    assert 0 < mask.sum() < len(groups)
    assert abs(mask.sum() - size * len(groups)) <= max(sizes.values()) + 1


@given(st.lists(st.integers(0, 9), min_size=2, max_size=80), st.floats(0.01, 0.6), st.integers(0, 99))
def test_a_share_by_class_is_the_share_of_each_class(labels, size, seed):
    holdout, sizes = Holdout(size=size, side="train", seed=seed), Counter(labels)
    target = min(max(1, round(size * len(labels))), len(labels) - 1)
    if target > len(labels) - len(sizes):
        with pytest.raises(DataError, match="cannot be held out so that each of .* classes keeps a row for training"):
            split.draw_mask_by_class(labels, holdout)
        return
    mask = split.draw_mask_by_class(labels, holdout)
    held_out = Counter(label for label, is_test in zip(labels, mask, strict=True) if is_test)
    assert mask.sum() == target
    for label, count in sizes.items():
        assert held_out[label] < count
    if min(sizes.values()) * (1 - target / len(labels)) > 1:
        assert all(abs(held_out[label] - count * target / len(labels)) <= 1 for label, count in sizes.items())


def test_a_split_never_changes():
    mask = split.draw_holdout_mask(20, Holdout(size=4, side="train", seed=7))
    assert mask.nonzero()[0].tolist() == [1, 2, 5, 17]


@pytest.mark.parametrize("by", [None, "topic", "anchor", "b"])
@pytest.mark.parametrize("size", [0.2, 12])
def test_the_two_sides_are_a_partition_in_the_order_of_the_data(pairs, by, size):
    whole = pairs().rows["anchor"][:]
    train, test = (
        pairs(holdout={"size": size, "side": side, "by": by, "seed": 3}).rows["anchor"][:] for side in ("train", "test")
    )
    assert len(test) == 12
    assert sorted(train + test) == sorted(whole)
    assert train == [text for text in whole if text in set(train)]
    assert test == [text for text in whole if text in set(test)]


def test_hold_out_of_a_table_equals_reading_that_side(pairs):
    for side in ("train", "test"):
        holdout = Holdout(size=0.25, side=side, by="topic", seed=5)
        read, cut = pairs(holdout=holdout.model_dump()), data.hold_out(pairs(), holdout)
        assert cut.rows.to_list() == read.rows.to_list()
        assert cut.fingerprint == read.fingerprint
        assert cut.roles == read.roles


def test_a_holdout_that_is_impossible_is_refused(pairs):
    with pytest.raises(DataError, match=r"^pairs\.jsonl: holdout: 60 rows cannot be held out of 60"):
        pairs(holdout={"size": 60, "side": "train"})
    with pytest.raises(DataError, match="there is no column 'topics'; did you mean topic"):
        pairs(holdout={"size": 0.5, "side": "train", "by": "topics"})
    with pytest.raises(DataError, match="there is no column 'topics'; did you mean topic"):
        data.hold_out(pairs(), Holdout(size=0.5, side="train", by="topics"))


def test_limit_draws_rows_in_order_after_the_holdout(pairs):
    train = pairs(holdout={"size": 0.5, "side": "train"}).rows["anchor"][:]
    few = pairs(holdout={"size": 0.5, "side": "train"}, limit=10).rows["anchor"][:]
    assert len(few) == 10
    assert few == [text for text in train if text in few]
    assert few != train[:10]
    assert pairs(limit=1000).fingerprint == pairs().fingerprint


# -- fingerprints --------------------------------------------------------------------------------------------------


def test_a_fingerprint_depends_only_on_the_roles_and_the_order_of_the_rows(pairs, tmp_path):
    first = pairs()
    lines = (tmp_path / "pairs.jsonl").read_text().splitlines()
    write(tmp_path / "pairs.jsonl", *({**json.loads(line), "topic": "none"} for line in lines))
    assert pairs().fingerprint == first.fingerprint
    assert pairs(columns={"anchor": "b", "positive": "a"}).fingerprint != first.fingerprint
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines[::-1]))
    assert pairs().fingerprint != first.fingerprint
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines[:-1]))
    assert pairs().fingerprint != first.fingerprint


@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=2, max_size=4))
def test_a_fingerprint_depends_on_where_a_text_ends(texts):
    rows = datasets.Dataset.from_dict({"text": texts})
    joined = datasets.Dataset.from_dict({"text": [texts[0] + texts[1], *texts[2:], ""]})
    assert data.table.compute_fingerprint(rows, ["text"]) != data.table.compute_fingerprint(joined, ["text"])


def test_fingerprints_never_change():
    """lock.json keeps fingerprints, so a release must compute the same ones. The rows fill more than one batch."""
    rows = datasets.Dataset.from_dict({"text": [f"text {n}" for n in range(5000)], "n": [n / 2 for n in range(5000)]})
    assert data.table.compute_fingerprint(rows, ["n", "text"]).startswith("834e0ea117bab2c0")
    chunks = datasets.concatenate_datasets([rows.select(range(7)), rows.select(range(7, 5000))])
    assert data.table.compute_fingerprint(chunks, ["n", "text"]) == data.table.compute_fingerprint(rows, ["n", "text"])


# -- answers from headers alone -------------------------------------------------------------------------------------


def test_columns_that_are_missing_are_problems(tmp_path):
    write(tmp_path / "x.jsonl", {"sentence1": "a", "sentence2": "b", "score": 1})
    bad_section = section(
        source="file",
        path="x.jsonl",
        columns={"anchor": "sentence3"},
        where={"scor": 1},
        holdout={"size": 1, "side": "train", "by": "group"},
    )
    assert data.problems(bad_section, PAIR, folder=tmp_path) == [
        (("columns", "anchor"), "there is no column 'sentence3'; did you mean sentence2?"),
        (
            ("columns",),
            "needs a column 'positive'; there are: sentence1, sentence2, score; name it with columns: {positive: …}",
        ),
        (("where", "scor"), "there is no column 'scor'; did you mean score?"),
        (("holdout", "by"), "there is no column 'group'; there are: anchor, sentence1, sentence2, score"),
    ]
    with pytest.raises(DataError, match="sentence3"):
        data.read(bad_section, PAIR, folder=tmp_path)
    good_section = section(source="file", path="x.jsonl", columns={"anchor": "sentence1", "positive": "sentence2"})
    assert data.problems(good_section, PAIR, folder=tmp_path) == []
    assert data.peek(good_section, folder=tmp_path) == ("anchor", "positive", "score")


@pytest.mark.parametrize(
    ("fields", "where", "what"),
    [
        ({"source": "file", "path": "none.csv"}, ("path",), "no such file"),
        ({"source": "builtin", "name": "icd10"}, ("name",), "did you mean icd10cm"),
        ({"source": "builtin", "name": "icd10cm", "table": "term"}, ("table",), "did you mean terms"),
    ],
)
def test_data_that_is_missing_is_a_problem(tmp_path, fields, where, what):
    [(path, message)] = data.problems(section(**fields), PAIR, folder=tmp_path)
    assert path == where
    assert what in message
    with pytest.raises(DataError, match=what):
        data.peek(section(**fields), folder=tmp_path)


def test_the_columns_of_hub_data_are_not_known_without_the_network(tmp_path):
    hub = section(source="hub", name="owner/name")
    assert data.peek(hub, folder=tmp_path) is None
    assert data.problems(hub, PAIR, folder=tmp_path) == []


def test_checking_imports_nothing_heavy(tmp_path):
    """`zoo check` must stay fast, so neither a file nor a builtin data set may import a heavy package."""
    write(tmp_path / "x.jsonl", {"anchor": "a", "positive": "b"})
    code = """
import sys
from pathlib import Path
from zoo import data
from zoo.data.sources import builtin
from zoo.data.spec import BuiltinData, FileData

required = {"anchor": "text"}
assert data.problems(FileData(source="file", path="x.jsonl"), required, folder=Path(sys.argv[1])) == []
for name in builtin.list_names():
    assert data.problems(BuiltinData(source="builtin", name=name), required, folder=Path())
heavy = "numpy pyarrow datasets pandas torch huggingface_hub PIL sklearn simple_icd_10_cm fontawesomefree".split()
print([name for name in heavy if name in sys.modules])
"""
    process = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"


# -- hub -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub of one data set. `hub.loaded` holds the arguments of the last load."""
    monkeypatch.chdir(tmp_path)
    state = SimpleNamespace(loaded=None, offline=False, error=None)
    rows = datasets.Dataset.from_list([{"q": f"query {n}", "label": n % 2} for n in range(5)])
    rows = rows.cast_column("label", datasets.ClassLabel(names=["no", "yes"]))

    def dataset_info(self, name, *, revision=None, timeout=None):
        if state.offline:
            raise HTTPError("no network")
        return SimpleNamespace(sha="c0ffee", card_data={"license": "cc-by-4.0"})

    def load_dataset(name, config=None, *, revision, split):
        if state.error:
            raise state.error
        state.loaded = (name, config, revision, split)
        return rows

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)

    def read(**fields):
        fields = {"source": "hub", "name": "owner/name", "columns": {"text": "q"}, **fields}
        return data.read(section(**fields), {"text": "text", "label": "label"}, folder=tmp_path)

    state.read = read
    return state


def test_hub_data_is_read_at_the_commit_of_its_branch(hub):
    table = hub.read(config="en", revision="main", split="test")
    assert hub.loaded == ("owner/name", "en", "c0ffee", "test")
    assert table.origin == data.Origin(
        "owner/name", "c0ffee", "cc-by-4.0", "https://huggingface.co/datasets/owner/name"
    )
    assert table.rows.to_list() == [{"text": f"query {n}", "label": n % 2} for n in range(5)]


def test_hub_data_comes_from_the_cache_when_offline(hub):
    hub.offline = True
    assert hub.read(revision="v1").origin.revision == "v1"
    assert hub.loaded == ("owner/name", None, "v1", "train")
    assert hub.read().origin.revision == ""


class HTTPError(Exception):
    """An error of an HTTP client, which does not derive from OSError."""


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (datasets.exceptions.DatasetNotFoundError("Dataset 'owner/name' doesn't exist"), "check its name"),
        (HTTPError("[Errno -2] Name or service not known"), "go online once"),
        (ConnectionError("Couldn't reach the Hub\n(long trace)"), "go online once"),
        (ValueError("Unknown split \"tset\". Should be one of ['train']"), "check name, config, revision and split"),
    ],
)
def test_hub_errors_are_one_line_with_advice(hub, error, advice):
    hub.error = error
    with pytest.raises(DataError, match=advice) as excinfo:
        hub.read()
    assert "owner/name" in str(excinfo.value)
    assert "\n" not in str(excinfo.value)


def test_a_local_folder_cannot_pose_as_hub_data(hub, tmp_path):
    (tmp_path / "owner" / "name").mkdir(parents=True)
    with pytest.raises(DataError, match="use source: file"):
        hub.read()
    for name in ("/etc/data", "../up", "https://example.org/x", "a/b/c"):
        with pytest.raises(ValidationError, match="String should match pattern"):
            section(source="hub", name=name)


# -- builtin -------------------------------------------------------------------------------------------------------


@pytest.fixture
def icd():
    if importlib.util.find_spec("simple_icd_10_cm") is None:
        pytest.skip("needs simple-icd-10-cm")

    def read(table, need, optional=None, **fields):
        source = section(source="builtin", name="icd10cm", table=table, **fields)
        return data.read(source, need, optional or {}, folder=Path())

    return read


@pytest.mark.parametrize("name", builtin.list_names())
def test_builtins_have_the_columns_they_declare_and_one_order(name):
    module = builtin.load_module(name)
    for table, columns in module.TABLES.items():
        row_count = getattr(module, "COUNTS", {}).get(table)  # of a grid, which is too large to compare whole
        rows = list(itertools.islice(module.read_rows(table), 5000 if row_count else None))
        assert rows
        assert all(tuple(row) == columns for row in rows)
        assert rows == list(itertools.islice(module.read_rows(table), 5000 if row_count else None))
        if row_count:
            positions = np.array([0, 7, 4999, row_count - 1])
            assert list(module.read_rows_at(table, positions))[:3] == [rows[position] for position in positions[:3]]


def test_icd10cm_tables_fit_together(icd):
    terms = icd("terms", {"term": "text", "description": "text", "code": "id", "chapter": "label"}).rows
    descriptions = icd("descriptions", {"description": "text", "code": "id"}).rows
    assert len(terms) > 12_000
    assert len(set(zip(terms["term"], terms["description"], strict=True))) == len(terms)
    assert len(set(descriptions["description"])) == len(descriptions)
    assert set(descriptions["description"]) == set(terms["description"])
    assert set(terms["chapter"]) <= set(range(1, 23))
    tree = icd("tree", {"id": "id"}, optional={"parent": "ids"}).rows
    parents_of = dict(zip(tree["id"], tree["parent"], strict=True))
    assert set(zip(icd("terms", {"block": "id"}).rows["block"], map(str, terms["chapter"]), strict=True)) <= {
        (block, parent) for block, parents in parents_of.items() for parent in parents
    }
    assert [name for name, parents in parents_of.items() if not parents] == [str(n) for n in range(1, 23)]
    categories = icd("categories", {"text": "text", "block_name": "label"}).rows
    cholera = categories[0]
    assert (cholera["code"], cholera["block"], cholera["chapter"]) == ("A00", "A00-A09", "1")
    assert cholera["text"].startswith("Cholera. Cholera due to Vibrio cholerae 01, biovar cholerae. ")
    assert cholera["block_name"] == "Intestinal infectious diseases"
    assert all(len(code) == 3 for code in categories["code"])


def test_icd10cm_agrees_with_the_package(icd):
    package = pytest.importorskip("simple_icd_10_cm")
    terms = icd("terms", {"term": "text", "description": "text", "code": "id", "block": "label"}).rows
    for row in terms.select(range(0, len(terms), 97)):
        assert " ".join(package.get_description(row["code"]).split()) == row["description"]
        assert row["term"] in [" ".join(term.split()) for term in package.get_inclusion_term(row["code"])]
        assert row["block"] in package.get_ancestors(row["code"])


def test_no_icd10cm_term_is_on_both_sides_of_a_holdout(icd):
    need = {"query": "text", "document": "text"}
    fields = {"columns": {"query": "term", "document": "description"}}
    train, test = (
        icd("terms", need, holdout={"size": 1500, "side": side, "by": "term"}, **fields) for side in ("train", "test")
    )
    assert len(test.rows) == 1500
    assert not set(train.rows["query"]) & set(test.rows["query"])
    assert test.origin.licence == "public domain"
    assert "simple-icd-10-cm" in test.origin.revision


def test_a_missing_package_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    icd10cm = section(source="builtin", name="icd10cm")
    with pytest.raises(DataError, match=r'pip install "embedding-zoo\[quickstart\]"'):
        data.read(icd10cm, {"term": "text"}, folder=tmp_path)
    [(path, message)] = data.problems(icd10cm, {"term": "text"}, folder=tmp_path)
    assert path == ("name",)
    assert "quickstart" in message


@pytest.mark.parametrize(
    ("name", "separator", "message"),
    [
        ("x.csv", ";", "the header 'anchor;positive' is separated by semicolons; save the file with commas"),
        ("x.csv", "\t", "is separated by tabs; save the file with commas"),
        ("x.csv", "|", "is separated by bars; save the file with commas"),
        ("x.csv", " ", "did you mean anchor positive"),
        ("x.tsv", ";", "is separated by semicolons; save the file with tabs"),
        ("x.tsv", ",", "is separated by commas; save the file with tabs"),
    ],
)
def test_a_header_with_another_separator_is_named_as_such(name, separator, message, tmp_path):
    (tmp_path / name).write_text(f"anchor{separator}positive\na{separator}b\n")
    with pytest.raises(DataError, match=message):
        data.read(section(source="file", path=name), {"anchor": "text"}, folder=tmp_path)
