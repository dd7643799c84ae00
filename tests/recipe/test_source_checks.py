"""Mistakes in a list of training data are found without reading rows, each with its place and a cure."""

from __future__ import annotations

import json

import pytest

from zoo.core.errors import RecipeError
from zoo.data.data_source import DataSource, name_source
from zoo.data.spec import BuiltinSource, FileSource, HubSource
from zoo.families.matryoshka_2d.spec import Spec
from zoo.recipe import recipe
from zoo.recipe.role_sources import describe_roles

STATIC = {"family": "static", "backbone": "me/on-the-hub"}
ONE, TWO = {"source": "file", "path": "one.csv"}, {"source": "file", "path": "two.csv"}


@pytest.fixture
def folder(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.csv").write_text("anchor,positive,other\na,b,c\n")
    (tmp_path / "odd.csv").write_text("question,reply\na,b\n")
    return tmp_path


def load(folder, data, encoder=STATIC, **sections):
    text = json.dumps({"name": "n", "encoder": encoder, "data": data, **sections})
    return recipe.loads(text, folder=folder, file="r")


def problem(folder, *arguments, **sections):
    with pytest.raises(RecipeError) as caught:
        load(folder, *arguments, **sections)
    (line,) = caught.value.problems
    return line.split(": ", 1)[1]


def test_a_list_is_read_and_written_back(folder):
    entries = [{**ONE, "weight": 2, "alias": "first"}, {**TWO, "rows": 10}]
    loaded = load(folder, entries, mixture={"draw": "weighted"})
    assert loaded.sources == {
        "first": DataSource("first", weight=2.0),
        "two": DataSource("two", rows=10),
    }
    assert recipe.loads(loaded.dump(), folder=folder) == loaded
    assert describe_roles(loaded) == [f"data {name}: anchor, positive" for name in ("first (one.csv)", "two (two.csv)")]


def test_one_section_has_no_sources_and_no_mixture(folder):
    loaded = load(folder, ONE)
    assert (loaded.sources, loaded.mixture) == ({}, None)


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        (FileSource(source="file", path="a/pairs.v2.csv.gz"), "pairs"),
        (FileSource(source="file", path="a/parts/*.jsonl"), "parts"),
        (FileSource(source="file", path="$ZOO_DATA"), "ZOO_DATA"),
        (FileSource(source="file", path="a.csv", alias="b"), "b"),
        (HubSource(source="hub", name="owner/rows"), "rows"),
        (BuiltinSource(source="builtin", name="icd10cm", table="terms"), "icd10cm-terms"),
        (BuiltinSource(source="builtin", name="digits"), "digits"),
    ],
)
def test_a_source_has_the_name_of_its_file_or_data_set(entry, name):
    assert name_source(entry) == name


@pytest.mark.parametrize(
    ("data", "sections", "expected"),
    [
        ([ONE, ONE], {}, "data.1: is called 'one', and so is data.0: give one of them an `alias`"),
        (
            [{**ONE, "weight": 2}, TWO],
            {"mixture": {"draw": "equal"}},
            "data.0.weight: has no effect with mixture.draw: equal; leave one of them out",
        ),
        ([{**ONE, "loss": "cosent"}, TWO], {}, "data.0.loss: static has no loss 'cosent' for a source; leave `loss` out"),
        (
            [{**ONE, "prompts": {"query": "q: "}}, TWO],
            {},
            "data.0.prompts: static has no prompts for a source; leave `prompts` out",
        ),
        (
            [ONE, {**TWO, "limit": 10}],
            {"training": {"batch_size": 16}},
            "data.1.limit: 10 rows are fewer than training.batch_size, 16, and a batch is of one source: raise it, lower "
            "batch_size, or set mixture.batches: mixed",
        ),
        (
            [ONE, {"source": "file", "path": "odd.csv", "columns": {"anchor": "question"}}],
            {},
            "data.1.columns: needs a column 'positive'; there are: question, reply; name it with columns: {positive: …}",
        ),
        (ONE, {"mixture": {}}, "mixture: needs several sources: write `data` as a list, or leave `mixture` out"),
        (
            [{**ONE, "weight": 1, "rows": 5}, TWO],
            {},
            "data.0: give either `weight` or `rows`, not both: rows is a number, weight a share of the others",
        ),
        ([{**ONE, "wait": 1}, TWO], {}, "data.0.wait: unknown key; did you mean weight?"),
        ({**ONE, "wait": 1}, {}, "data.wait: unknown key; did you mean path?"),
        ([{**ONE, "source": "fiel"}, TWO], {}, "data.0: 'fiel' is not one of hub, file, builtin; did you mean file?"),
        ([{**ONE, "path": "three.csv"}, TWO], {}, "data.0.path: "),
        ([], {}, "data: "),
        ("one.csv", {}, "data: "),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_place_and_cure(folder, data, sections, expected):
    line = problem(folder, data, **sections)
    assert line == expected if expected[-1] != " " else line.startswith(expected), line


def test_sources_of_one_loss_need_a_common_role(folder):
    images = {"source": "file", "path": "odd.csv", "columns": {"query_image": "question", "positive_image": "reply"}}
    texts = {**ONE, "columns": {"query": "anchor", "positive": "positive"}}
    encoder = {"family": "vlm2vec", "backbone": "me/vlm"}
    line = problem(folder, [texts, images], encoder)
    assert line.startswith(
        "data.1: has no role in common with data.0: it has query_image, positive_image, and that has "
    )


def test_an_entry_needs_the_columns_of_its_own_loss(folder, monkeypatch):
    monkeypatch.setattr(Spec, "source_losses", ("cosent", "contrastive"))
    encoder = {"family": "matryoshka-2d", "backbone": "me/on-the-hub", "loss": "contrastive"}
    scored = {**TWO, "loss": "cosent", "columns": {"sentence1": "anchor", "sentence2": "positive", "score": "other"}}
    assert load(folder, [ONE, scored], encoder).sources["two"].loss == "cosent"
    assert "needs a column 'score'" in problem(
        folder, [ONE, {**scored, "columns": {"sentence1": "anchor", "sentence2": "positive"}}], encoder
    )
    assert "no loss 'cosnt' for a source; did you mean cosent?" in problem(
        folder, [ONE, {**TWO, "loss": "cosnt"}], encoder
    )
    assert problem(folder, [ONE, scored], encoder, mixture={"batches": "mixed"}) == (
        "data.1.loss: needs batches of one source: leave it out, or set mixture.batches: source"
    )


def test_a_family_that_reads_its_rows_as_one_table_refuses_shares(folder):
    encoder = {"family": "binary-pv"}
    entries = [{**ONE, "columns": {"text": "anchor"}}, {**TWO, "columns": {"text": "anchor"}, "weight": 2}]
    assert "data.1.weight: binary-pv reads all rows as one table" in problem(folder, entries, encoder)


def test_further_sets_of_a_family_stand_in_the_list(folder):
    texts = {**ONE, "columns": {"query": "anchor", "positive": "positive"}}
    encoder = {"family": "vlm2vec", "backbone": "me/vlm", "sets": {"more": {**texts, "path": "two.csv"}}}
    assert problem(folder, [texts], encoder) == (
        "encoder.sets: `data` is a list: write the further sets into it, and leave `sets` out"
    )


def test_the_schema_knows_a_list(folder):
    schema = recipe.schema()
    assert {"HubSource", "FileSource", "BuiltinSource", "Mixture"} <= schema["$defs"].keys()
