"""`zoo fit` and `zoo apply`: steps for vectors in files and for models that no recipe made."""

from __future__ import annotations

import json

import after_steps
import numpy as np
import pytest
import tiny

import zoo
import zoo.after
from zoo.artefact import manifest
from zoo.build import fitting
from zoo.cli.main import main
from zoo.core.errors import DataError, ZooError
from zoo.recipe import step_arguments


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitting")
    tiny.backbone(folder / "backbone")
    np.save(folder / "vectors.npy", 3 * after_steps.draw_clustered(300))
    np.save(folder / "integers.npy", np.zeros((4, 64), int))
    np.save(folder / "narrow.npy", after_steps.draw_clustered(20, 32))
    np.save(folder / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    (folder / "texts.txt").write_text("\n".join(tiny.SENTENCES) + "\n")
    (folder / "titles.csv").write_text("title\n" + "\n".join(tiny.SENTENCES[:40]) + "\n")
    return folder


def run(*words):
    return main([str(word) for word in words])


def test_a_step_is_fitted_on_vectors_and_applied_to_them(place, tmp_path):
    vectors, codes, decoded = place / "vectors.npy", tmp_path / "codes.npy", tmp_path / "decoded.npy"
    assert run("fit", "int8", vectors, "clip=.01", "--out", tmp_path / "step") == 0
    assert manifest.find_problems(tmp_path / "step") == {}
    step = zoo.after.open_step(tmp_path / "step")
    assert step.spec.clip == 0.01
    assert run("apply", tmp_path / "step", vectors, "--out", codes) == 0
    assert np.array_equal(np.load(codes), step.encode(np.load(vectors)))
    assert run("apply", tmp_path / "step", codes, "--decode", "--out", decoded) == 0
    assert np.array_equal(np.load(decoded), step.decode(np.load(codes)))


def test_vectors_get_unit_norm_if_asked_and_the_step_remembers_it(place, tmp_path):
    assert run("fit", "int8", place / "vectors.npy", "--unit", "--out", tmp_path / "step") == 0
    assert run("apply", tmp_path / "step", place / "vectors.npy", "--out", tmp_path / "codes.npy") == 0
    step, unit = zoo.after.open_step(tmp_path / "step"), after_steps.draw_clustered(300)
    assert np.abs(step.decode(np.load(tmp_path / "codes.npy")) - unit).max() < 0.01
    assert json.loads((tmp_path / "step" / "step.json").read_text())["source"] == {
        "unit": True,
        "vectors": "vectors.npy",
    }


@pytest.mark.parametrize("name", ["texts.txt", "titles.csv"])
def test_a_plain_model_gets_a_step_from_texts(place, tmp_path, name):
    more = ["data.columns.document=title"] if name.endswith("csv") else []
    words = ["rescore=int8", *more, "--data", place / name, "--out", tmp_path / "step"]
    assert run("fit", "binary", place / "backbone", *words) == 0
    encoder = zoo.from_pretrained(place / "backbone")
    encoder.attach_steps([zoo.after.open_step(tmp_path / "step")])
    vectors = encoder.encode(tiny.SENTENCES)
    assert (encoder.decode(encoder.codes(tiny.SENTENCES)) * vectors).sum(1).mean() > 0.99
    lines, out = tmp_path / "lines.txt", tmp_path / "codes.npy"
    lines.write_text("\n".join(tiny.SENTENCES))
    assert run("encode", place / "backbone", "--step", tmp_path / "step", "--input", lines, "--out", out) == 0
    assert np.array_equal(np.load(out), encoder.codes(tiny.SENTENCES))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("int9", "vectors.npy"), "is not one of binary"),
        (("int8", "vectors.npy", "clip=.7"), "int8: clip: must be less than 0.5"),
        (("int8", "vectors.npy", "clp=.1"), "did you mean clip?"),
        (("int8", "missing.npy"), "there is no such file; give an .npy"),
        (("int8", "objects.npy"), "cannot be read as an .npy file"),
        (("int8", "integers.npy"), "takes float vectors"),
        (("int8", "vectors.npy", "--data", "texts.txt"), "--data: is for a model"),
        (("int8", "backbone"), "give the texts to encode with --data"),
        (("int8", "backbone", "--unit"), "--unit: is for vectors"),
        (("int8", "backbone", "--data", "titles.csv"), "int8: data.columns: needs a column 'document'"),
        (("int8", "vectors.npy", "--queries", "narrow.npy"), "vectors have different sizes: documents 64, queries 32"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(place, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(place)
    assert run("fit", *words, "--out", tmp_path / "step") == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_replaced(place, tmp_path, capsys):
    assert run("fit", "int8", place / "vectors.npy", "--out", tmp_path) == 1
    assert "nothing was overwritten" in capsys.readouterr().err


def test_vectors_of_another_step_are_not_applied(place, tmp_path, capsys):
    assert run("fit", "int8", place / "vectors.npy", "--out", tmp_path / "step") == 0
    for words in ((place / "narrow.npy",), (place / "vectors.npy", "--decode")):
        assert run("apply", tmp_path / "step", *words, "--out", tmp_path / "out.npy") == 1
        assert "the step int8 takes (n, 64) of" in capsys.readouterr().err
    assert not (tmp_path / "out.npy").exists()


def test_documents_beyond_the_limit_are_drawn_with_their_answers():
    documents, answers = np.arange(100)[:, None], np.stack([np.arange(100), np.arange(100)[::-1]], axis=1)
    drawn, moved = fitting._draw_documents(documents, answers, 30, 1)
    assert len(drawn) == len(moved) == 30
    assert all(drawn[document, 0] == 99 - query for query, document in moved)


def test_answers_must_be_rows_of_the_vectors(tmp_path):
    arrays = {"queries": np.zeros((3, 2)), "documents": np.zeros((5, 2))}
    for answers, message in (
        (np.array([[0, 5]]), "beyond the 3 queries or the 5 documents"),
        (np.array([[0.5, 1.0]]), "whole numbers"),
    ):
        with pytest.raises(DataError, match=message):
            fitting._check_answers(answers, arrays)
    assert fitting._check_answers(np.array([[2, 4]], np.uint8), arrays).dtype == np.int64


def test_pairs_by_other_names_are_a_query_and_a_document(tmp_path):
    (tmp_path / "pairs.csv").write_text("anchor,positive\na dog,the dog\n")
    assert step_arguments.guess_columns(str(tmp_path / "pairs.csv"), "document") == {
        "query": "anchor",
        "document": "positive",
    }
    with pytest.raises(ZooError, match="write it as key=value"):
        step_arguments.make_step("int8", ["clip"])
