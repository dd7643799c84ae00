"""`zoo check` counts texts that are longer than the encoder reads, in every data section whose file is there."""

from __future__ import annotations

import json

import pytest
import shapes_of_data
import tiny

import zoo
from zoo import evaluation
from zoo.build import text_lengths as before_training
from zoo.build import training_data
from zoo.cli.main import main
from zoo.recipe import text_lengths
from zoo.text import spelled_words

LONG = " ".join(tiny.WORDS[:38])  # 40 tokens with the special ones


def write(folder, *, long_rows=(), rows=30, backbone=None):
    """Write pairs of which some answers are long, and a recipe for them."""
    pairs = [
        {"q": tiny.SENTENCES[i], "a": LONG if i in long_rows else tiny.SENTENCES[i + 40], "n": i} for i in range(rows)
    ]
    shapes_of_data.write_csv(folder / "pairs.csv", pairs)
    reference = backbone or tiny.backbone(folder / "backbone", layers=1, hidden=16)
    data = "{source: file, path: pairs.csv, columns: {%s: q, %s: a}, holdout: {size: 10, side: %s, by: n}}"
    text = f"""
name: lengths
encoder: {{family: matryoshka-2d, loss: contrastive, backbone: {json.dumps(reference)}, max_length: 24}}
data: {data % ("anchor", "positive", "train")}
evaluation: [{{task: retrieval, data: {data % ("query", "document", "test")}}}]
"""
    path = folder / "recipe.yaml"
    path.write_text(text)
    return zoo.load_recipe(path)


def test_long_texts_of_both_sides_are_counted(tmp_path):
    notes, warnings = text_lengths.describe(write(tmp_path, long_rows=range(30)))
    assert notes == []
    assert warnings == [
        "data: 20 of 40 texts are longer than 24 tokens, the longest by 16; the rest of them is not read; raise "
        "encoder.max_length, up to 40, or split the texts",
        "retrieval.data: 10 of 20 texts are longer than 24 tokens, the longest by 16; the rest of them is not read; raise "
        "encoder.max_length, up to 40, or split the texts",
    ]


def test_short_texts_are_a_note(tmp_path):
    assert text_lengths.describe(write(tmp_path)) == (["lengths: all 60 texts are within 24 tokens"], [])


def test_a_warning_of_the_command_names_the_recipe(tmp_path, capsys):
    write(tmp_path, long_rows=range(30))
    assert main(["check", str(tmp_path / "recipe.yaml")]) == 0
    printed = capsys.readouterr()
    assert "warning: " in printed.err
    assert "recipe.yaml: data: 20 of 40 texts are longer than 24 tokens" in printed.err
    assert "lengths" not in printed.out


def test_only_the_first_of_very_many_rows_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(text_lengths, "MOST_ROWS", 19)
    _, warnings = text_lengths.describe(write(tmp_path, long_rows=[3, 29]))
    assert warnings[0].startswith(
        "data: 1 of 40 texts is longer than 24 tokens, the longest by 16; only the first 19 rows were read;"
    )


def test_rows_that_cannot_be_read_are_left_to_the_check_of_rows(tmp_path):
    recipe = write(tmp_path)
    with (tmp_path / "pairs.csv").open("a") as file:
        file.write('x,"never closed\n')
    notes, warnings = text_lengths.describe(recipe)
    assert warnings == []
    assert "lengths of data: not counted, because of" in notes[0]
    assert "a quote is never closed" in notes[0]


@pytest.mark.usefixtures("hub")
def test_a_backbone_on_the_hub_is_not_fetched(tmp_path):
    notes, warnings = text_lengths.describe(write(tmp_path, backbone="me/encoder"))
    assert warnings == []
    assert notes == [
        "lengths: not counted, because the tokenizer of me/encoder is on the Hub and not on this machine yet"
    ]


def test_lock_and_card_have_the_counts(tmp_path, capsys):
    write(tmp_path, long_rows=range(0, 30, 3))
    out = tmp_path / "run"
    assert main(["train", str(tmp_path / "recipe.yaml"), "training.max_steps=1", "--out", str(out)]) == 0
    counts = {entry["name"]: entry for entry in json.loads((out / "model" / "lock.json").read_text())["long_texts"]}
    assert counts["train"]["long"] + counts["retrieval"]["long"] == 10
    assert {entry["longest"] for entry in counts.values()} == {40}
    long = counts["train"]["long"]
    assert (
        f"{long} of 40 texts of train are longer than 24 tokens, the longest by 16."
        in (out / "model/README.md").read_text()
    )
    assert f"warning: train: {long} of 40 texts are longer than 24 tokens" in capsys.readouterr().err


def test_of_many_rows_some_are_drawn_before_their_texts_are_read(tmp_path, monkeypatch):
    recipe = write(tmp_path, long_rows=range(30))
    tables, tasks = training_data.read_tables(recipe), evaluation.prepare(recipe.evaluation, recipe.folder)
    whole, _ = before_training.count(recipe, tables, tasks)
    monkeypatch.setattr(before_training, "MEMORY_ROWS", 15)  # below the 20 training rows, above the 10 of the test
    monkeypatch.setattr(before_training, "MOST_TEXTS", 8)
    drawn, _ = before_training.count(recipe, tables, tasks)
    assert (whole[0]["counted"], whole[0]["texts"], whole[0]["long"]) == (40, 40, 20)
    assert (drawn[0]["counted"], drawn[0]["texts"], drawn[0]["long"]) == (16, 40, 8)
    assert drawn[1:] == whole[1:]


def spell(folder, family="{family: matryoshka-2d, loss: contrastive, "):
    """Write a recipe as `write` does, with texts of which the backbone knows no word."""
    write(folder)
    path = folder / "recipe.yaml"
    path.write_text(path.read_text().replace("{family: matryoshka-2d, loss: contrastive, ", family))
    rows = [{"q": f"вопрос номер {i}", "a": f"совсем другой ответ {i}", "n": i} for i in range(30)]
    shapes_of_data.write_csv(folder / "pairs.csv", rows)
    return zoo.load_recipe(path)


def test_texts_that_the_backbone_does_not_know_are_warned_of_before_and_after_the_training(tmp_path, capsys):
    recipe = spell(tmp_path)
    clause = f"of the words are spelled letter by letter, because {recipe.encoder.backbone} does not know them"
    _, (warning,) = text_lengths.describe(recipe)
    assert warning.startswith("data: ")
    assert f"{clause}; {spelled_words.ADVICE}" in warning
    out = tmp_path / "run"
    path = str(tmp_path / "recipe.yaml")
    assert main(["train", path, "training.max_steps=1", "training.batch_size=2", "--out", str(out)]) == 0
    assert capsys.readouterr().err.count(clause) >= 1
    (finding,) = [
        entry for entry in json.loads((out / "report.json").read_text())["health"] if clause in entry["message"]
    ]
    assert (finding["level"], finding["advice"]) == ("warning", spelled_words.ADVICE)


def test_an_encoder_that_learns_its_tokens_from_the_texts_is_not_measured_by_those_of_the_backbone(tmp_path):
    recipe = spell(tmp_path, "{family: static, dim: 8, ")
    assert text_lengths.describe(recipe) == (
        ["lengths: not counted, because the tokens are learned from the training texts"],
        [],
    )
    tables, tasks = training_data.read_tables(recipe), evaluation.prepare(recipe.evaluation, recipe.folder)
    assert before_training.count(recipe, tables, tasks) == ([], [])
    assert before_training.find_unknown_words(recipe, tables) == []


def test_only_training_texts_decide_whether_the_backbone_knows_the_words(tmp_path):
    write(tmp_path)
    path = tmp_path / "recipe.yaml"
    path.write_text(path.read_text().replace("task: retrieval,", "task: retrieval, name: data of a test,"))
    rows = [{"q": f"вопрос номер {i}", "a": f"совсем другой ответ {i}", "n": i} for i in range(30)]
    shapes_of_data.write_csv(tmp_path / "other.csv", rows)
    before, _, after = path.read_text().partition("evaluation:")
    path.write_text(before + "evaluation:" + after.replace("pairs.csv", "other.csv"))
    assert text_lengths.describe(zoo.load_recipe(path)).warnings == []
