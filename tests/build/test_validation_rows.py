"""Validation rows are held out of the training rows by class or by group, and rare classes are told."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest
from datasets import Dataset

from zoo.build import training_data, validation_rows
from zoo.core.errors import DataError, DataWarning
from zoo.data import Origin
from zoo.data.spec import Data, FileData
from zoo.data.table import Table
from zoo.spec import ExtraDataset


def make_table(roles=("text", "label"), **columns):
    return Table(Dataset.from_dict(columns), "", Origin("rows"), roles=roles)


def hold_out(table, size=0.25, by=None, seed=3, columns=None):
    holdout = SimpleNamespace(by=by) if by else None
    source = FileData(source="file", path="a.jsonl", columns=columns or {})
    data: Data = source.model_copy(update={"holdout": holdout})
    recipe = SimpleNamespace(data=data, validation=size, training=SimpleNamespace(seed=seed))
    return validation_rows.hold_out(recipe, table)


def count(table, column="label"):
    values = list(table.rows[column])
    return {value: values.count(value) for value in sorted(set(values))}


def test_the_share_is_taken_of_each_class_and_no_row_is_on_both_sides():
    table = make_table(text=[str(i) for i in range(60)], label=["a"] * 40 + ["b"] * 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parts = hold_out(table)
    assert list(parts) == ["train", "validation"]
    assert count(parts["validation"]) == {"a": 10, "b": 5}
    assert sorted([*parts["train"].rows["text"], *parts["validation"].rows["text"]]) == sorted(table.rows["text"])
    again, other = hold_out(table), hold_out(table, seed=4)
    assert list(again["validation"].rows["text"]) == list(parts["validation"].rows["text"])
    assert list(other["validation"].rows["text"]) != list(parts["validation"].rows["text"])


def test_without_labels_the_share_is_one_of_all_rows():
    parts = hold_out(make_table(roles=("text",), text=[str(i) for i in range(40)], label=["a"] * 40))
    assert [len(part.rows) for part in parts.values()] == [30, 10]


def test_groups_stay_together_also_under_another_name_of_their_column_and_if_there_are_labels():
    groups = [f"g{i // 4}" for i in range(80)]
    table = make_table(text=groups, label=["a", "b"] * 40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parts = hold_out(table, by="raw", columns={"text": "raw"})
    sides = [set(part.rows["text"]) for part in parts.values()]
    assert not sides[0] & sides[1]
    assert sides[1]


def test_classes_that_are_too_rare_for_a_row_are_told_up_to_five():
    rare = [f"r{i}" for i in range(7)]
    table = make_table(text=["x"] * 47, label=["common"] * 40 + rare)
    message = "7 classes are too rare to have a row in it: r0, r1, r2, r3, r4; ask for a larger"
    with pytest.warns(DataWarning, match=message) as caught:
        parts = hold_out(table, size=0.1)
    assert list(count(parts["validation"])) == ["common"]
    assert len(caught) == 1


def test_a_share_that_cannot_be_taken_is_an_error_of_the_section():
    with pytest.raises(DataError, match="^validation: "):
        hold_out(make_table(roles=("text",), text=["a", "b"]), size=5.0)


# -- the tables of a run -----------------------------------------------------------------------------------------------


def test_a_run_reads_training_validation_and_the_familys_own_data_with_their_columns(monkeypatch):
    calls = []

    def read(source, required, optional=None, *, folder, store):
        calls.append((source, required, optional, folder, store))
        return f"table of {source}"

    extra = {("encoder", "teacher"): ExtraDataset("teacher", {"text": "text"}, {"label": "label"}, "training")}
    encoder = SimpleNamespace(roles=lambda: ({"anchor": "text"}, {"negative": "text"}), extra_datasets=lambda: extra)
    monkeypatch.setattr(training_data.data, "read", read)
    recipe = SimpleNamespace(encoder=encoder, data="rows", validation="others", folder="here")
    assert training_data.read_tables(recipe, "store") == {
        "train": "table of rows",
        "validation": "table of others",
        "teacher": "table of teacher",
    }
    assert calls == [
        ("rows", {"anchor": "text"}, {"negative": "text"}, "here", "store"),
        ("others", {"anchor": "text"}, {"negative": "text"}, "here", "store"),
        ("teacher", {"text": "text"}, {"label": "label"}, "here", "store"),
    ]
    recipe.validation = None
    assert list(training_data.read_tables(recipe)) == ["train", "teacher"]
