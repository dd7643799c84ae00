"""Rows come from everything that `data:` reads, and blocks hold them all in order."""

from __future__ import annotations

import datetime
import json

import pytest

import zoo
from zoo.core.errors import DataError
from zoo.index.rows import ID, find_layout, is_image_source, open_rows, read_blocks

CSV = "id,title,body,year,price,new,day,code\n" + "".join(
    f"a{n},title {n},body {n},{2000 + n},{n / 4},{'true' if n % 2 else 'false'},2020-01-{n + 1:02},0{n}\n"
    for n in range(9)
)


@pytest.fixture
def table(tmp_path):
    (tmp_path / "rows.csv").write_text(CSV)
    return tmp_path / "rows.csv"


def read(source, **options):
    layout, count = find_layout(source, **options)
    blocks = list(read_blocks(source, layout, 0, 4))
    assert sum(len(block.inputs) for block in blocks) == count
    rows = [row for block in blocks for row in block.rows.to_pylist()]
    return layout, rows, [text for block in blocks for text in block.inputs]


def test_columns_of_csv_have_the_kinds_of_their_cells(table):
    layout, rows, inputs = read(open_rows(table), texts=["title", "body"])
    assert layout.columns == {
        "id": "text",
        "title": "text",
        "body": "text",
        "year": "whole",
        "price": "number",
        "new": "flag",
        "day": "date",
        "code": "text",
    }
    assert inputs == [f"title {n} body {n}" for n in range(9)]
    assert rows[3] == {
        ID: "a3",
        "id": "a3",
        "title": "title 3",
        "body": "body 3",
        "year": 2003,
        "price": 0.75,
        "new": True,
        "day": datetime.date(2020, 1, 4),
        "code": "03",
    }


def test_a_data_section_filters_and_limits_the_rows(table, tmp_path):
    section = {"source": "file", "path": str(table), "where": {"new": True}, "limit": 2, "columns": {"text": "body"}}
    for rows in (section, tmp_path / "section.yaml", tmp_path / "recipe.yaml"):
        (tmp_path / "section.yaml").write_text(json.dumps(section))
        (tmp_path / "recipe.yaml").write_text(json.dumps({"name": "x", "data": section}))
        layout, found, inputs = read(open_rows(rows))
        assert layout.texts == ("text",)
        assert len(found) == 2
        assert all(row["new"] for row in found)
        assert inputs == [row["text"] for row in found]


def test_a_hold_out_by_a_column_gives_both_sides_together_all_rows(table):
    sides = []
    for side in ("train", "test"):
        section = {"source": "file", "path": str(table), "holdout": {"size": 3, "side": side, "by": "id"}}
        sides.append([row["id"] for row in read(open_rows(section), texts=["body"])[1]])
    assert len(sides[1]) == 3
    assert sorted(sides[0] + sides[1]) == [f"a{n}" for n in range(9)]


def test_lines_of_a_text_file_and_builtin_rows(tmp_path):
    (tmp_path / "lines.txt").write_text("a cat\na dog\n")
    assert read(open_rows(tmp_path / "lines.txt"))[2] == ["a cat", "a dog"]
    source = open_rows({"source": "builtin", "name": "icd10cm", "table": "categories", "limit": 5})
    assert len(read(source)[2]) == 5
    assert open_rows("builtin:icd10cm/categories").name == "builtin:icd10cm"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("no-such.csv", "there is no such file"),
        ("builtin:icd10", "did you mean icd10cm"),
        ({"source": "file"}, "path: "),
        (7, "rows are a path"),
    ],
)
def test_rows_that_cannot_be_opened_are_named(rows, message):
    with pytest.raises(DataError, match=message):
        find_layout(open_rows(rows))


def test_a_column_called_id_that_repeats_values_is_an_ordinary_column():
    source = open_rows([{"id": "x", "text": "a"}, {"id": "x", "text": "b"}])
    layout, rows, _ = read(source)
    assert layout.id is None
    assert [row[ID] for row in rows] == ["0", "1"]
    with pytest.raises(DataError, match="row 2: id: the id 'x' occurs twice"):
        find_layout(source, id_column="id")


def test_the_ids_of_the_index_have_a_name_of_their_own():
    with pytest.raises(DataError, match="rename this column"):
        find_layout(open_rows([{"_id": "1", "key": "2", "text": "a"}]), id_column="key")


def test_a_folder_of_images_is_searched_by_image(tmp_path):
    from PIL import Image

    for name, colour in (("red", (200, 0, 0)), ("green", (0, 200, 0)), ("blue", (0, 0, 200))):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), colour).save(tmp_path / "images" / name / "one.png")
    source = open_rows(tmp_path / "images")
    assert is_image_source(source)
    layout, rows, inputs = read(source, image="image")
    assert layout.image == "image"
    assert [row["label"] for row in rows] == ["blue", "green", "red"]
    assert all(row["image"] == str(tmp_path / "images" / row["label"] / "one.png") for row in rows)
    assert all(content.startswith(b"\x89PNG") for content in inputs)


def test_an_encoder_of_texts_refuses_images(encoder, tmp_path):
    from PIL import Image

    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "one.png")
    with pytest.raises(zoo.ZooError, match="encodes text, and the rows are images"):
        zoo.Index.build(encoder, tmp_path / "images", tmp_path / "index")


def test_images_are_found_by_words_and_by_images(tmp_path):
    tinyvlm = pytest.importorskip("tinyvlm")
    from PIL import Image

    from zoo import families

    folder = tinyvlm.write_backbone(tmp_path / "backbone", "idefics3")
    spec = families.load_spec("vlm2vec").model_validate({"family": "vlm2vec", "backbone": folder})
    encoder = families.load_encoder("vlm2vec").build(spec)
    colours = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200)}
    for name, colour in colours.items():
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("RGB", (28, 28), colour).save(tmp_path / "images" / name / "one.png")
    index = zoo.Index.build(encoder, tmp_path / "images", tmp_path / "index")
    queries = ["a red square", (tmp_path / "images" / "green" / "one.png").read_bytes()]
    by_words, by_image = index.search(queries, where='label != "blue"')
    assert {hit.row["label"] for hit in by_words} == {"red", "green"}
    images = [(tmp_path / "images" / name / "one.png").read_bytes() for name in ("red", "green")]
    expected = encoder.encode_document(images) @ encoder.encode_query(queries).T
    scores = [{hit.row["label"]: hit.score for hit in hits} for hits in (by_words, by_image)]
    for column, own in enumerate(scores):
        assert [own["red"], own["green"]] == pytest.approx(expected[:, column].tolist(), abs=1e-5)
    assert by_image[0].text.endswith(".png")
    with pytest.raises(zoo.ZooError, match="the rows are images, which BM25 cannot read"):
        index.search(["red"], hybrid=True)
