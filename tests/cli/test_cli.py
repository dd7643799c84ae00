"""The command line: errors of one line, exit statuses, and every verb on a tiny model."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import tiny_run
import tiny_vlm2vec

import zoo
from zoo.artefact import model_folder
from zoo.cli.main import main
from zoo.families.matryoshka_2d.encoder import Encoder
from zoo.families.matryoshka_2d.spec import Spec


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    base = tmp_path_factory.mktemp("cli")
    encoder = Encoder.build(Spec(family="matryoshka-2d", backbone=tiny.backbone(base / "backbone"), dims=(8, 16)))
    encoder.name = "tiny"
    return str(model_folder.save(encoder, base / "model"))


def test_list_show_copy_and_check_work_on_a_copied_recipe(capsys, tmp_path):
    assert main(["list"]) == 0
    assert "matryoshka-2d" in capsys.readouterr().out
    assert main(["show", "quickstart", "training.epochs=3"]) == 0
    assert "epochs: 3" in capsys.readouterr().out
    assert main(["copy", "quickstart", str(tmp_path / "mine.yaml")]) == 0
    assert main(["copy", "quickstart", str(tmp_path / "mine.yaml")]) == 1
    assert "already" in capsys.readouterr().err
    assert main(["check", str(tmp_path / "mine.yaml")]) == 0
    (tmp_path / "mine.yaml").write_text("name: x\nencoder: {family: nothing}\n")
    assert main(["check", str(tmp_path / "mine.yaml"), "quickstart"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert all(line.startswith(f"error: {tmp_path / 'mine.yaml'}:") for line in errors)


def test_every_option_of_a_view_is_listed_with_its_family(capsys):
    assert main(["show", "statik"]) == 1
    assert "there is no such family, step or recipe; did you mean static?" in capsys.readouterr().err
    assert main(["show", "views"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("--view layers=…" in line and "matryoshka-2d" in line and "blocks" in line for line in lines)
    assert not any(line.endswith("None") for line in lines)


@pytest.fixture(scope="module")
def instructed(tmp_path_factory):
    base = tmp_path_factory.mktemp("instructed")
    encoder = tiny_vlm2vec.build_encoder()
    encoder.prepare(tiny_vlm2vec.make_rows(), base)
    return str(model_folder.save(encoder, base / "model"))


@pytest.mark.parametrize("text", ["Find:", "7", "[a, b]"])
@pytest.mark.parametrize("options", [["--view", "instruction={}"], ["--view", "query={}", "--prompt", "query"]])
def test_an_instruction_is_used_as_it_is_written(text, options, instructed, tmp_path):
    (tmp_path / "lines").write_text("red\n")
    files = ["--input", str(tmp_path / "lines"), "--out", str(tmp_path / "o.npy")]
    assert main(["encode", instructed, *(option.format(text) for option in options), *files]) == 0
    expected = zoo.from_pretrained(instructed).view(instruction=text).encode(["red"])
    np.testing.assert_allclose(np.load(tmp_path / "o.npy"), expected, atol=1e-6)


@pytest.mark.parametrize("option", [["--instruction", "Find:"], ["--instruction=Find:"]])
def test_a_view_option_in_its_old_form_still_works_and_a_warning_gives_the_new_form(
    option, instructed, tmp_path, capsys
):
    (tmp_path / "lines").write_text("red\n")
    files = ["--input", str(tmp_path / "lines"), "--out", str(tmp_path / "o.npy")]
    assert main(["encode", instructed, *option, *files]) == 0
    assert "--view instruction=Find:" in capsys.readouterr().err
    expected = zoo.from_pretrained(instructed).view(instruction="Find:").encode(["red"])
    np.testing.assert_allclose(np.load(tmp_path / "o.npy"), expected, atol=1e-6)


def test_a_view_option_that_the_family_does_not_have_is_an_error_with_the_nearest_name(model, capsys):
    assert main(["export", model, "--view", "layer=2", "out"]) == 1
    error = capsys.readouterr().err
    assert "did you mean layers" in error
    assert main(["export", model, "--view", "layers", "out"]) == 1
    assert "--view KEY=VALUE" in capsys.readouterr().err


def test_a_view_option_with_the_name_of_a_verbs_own_option_changes_nothing_of_the_verb(model, monkeypatch, tmp_path):
    """A family may call a view option `precision` or `out`: such names live behind `--view` and hide no option of a verb."""

    class View(Spec.View):
        precision: str | None = None
        out: str | None = None

    monkeypatch.setattr(Spec, "View", View)
    (tmp_path / "lines").write_text("the dog\n")
    files = ["--input", str(tmp_path / "lines"), "--out", str(tmp_path / "o.npy")]
    assert main(["encode", model, "--precision", "fp32", *files]) == 0
    assert np.load(tmp_path / "o.npy").shape == (1, 32)


@pytest.mark.parametrize("verb", [["list"], ["encode", "--help"], ["export", "--help"]])
def test_the_parser_imports_no_family_for_a_verb_of_its_own(verb):
    code = (
        "import sys\nfrom zoo.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "assert not [name for name in sys.modules if name.startswith('zoo.families.')]"
    )
    run = subprocess.run([sys.executable, "-c", code, *verb], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_schema_prints_json(capsys):
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "zoo recipe"


@pytest.mark.parametrize("cut", [[], ["--layers", "2", "--dim", "8"]])
def test_encode_writes_the_vectors_of_lines_to_a_file_and_to_a_pipe(model, cut, tmp_path, monkeypatch):
    lines = tiny.SENTENCES[:30]
    (tmp_path / "lines.txt").write_text("\n".join(lines) + "\n")
    assert main(["encode", model, *cut, "--input", str(tmp_path / "lines.txt"), "--out", str(tmp_path / "v.npy")]) == 0
    encoder = zoo.from_pretrained(model)
    expected = (encoder.truncate(2, 8) if cut else encoder).encode(lines)
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), expected, atol=1e-6)
    pipe = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines).encode())))
    monkeypatch.setattr(sys, "stdout", pipe)
    assert main(["encode", model, *cut]) == 0
    pipe.buffer.seek(0)
    np.testing.assert_allclose(np.load(pipe.buffer), expected, atol=1e-6)


def test_encode_puts_the_prompt_of_queries_before_each_line(tmp_path, capsys):
    spec = Spec(family="matryoshka-2d", backbone=tiny.backbone(tmp_path / "b"), prompts={"query": "the man "})
    encoder = Encoder.build(spec)
    model_folder.save(encoder, tmp_path / "model")
    (tmp_path / "lines").write_text("runs\neats\n")
    words = ["encode", str(tmp_path / "model"), "--input", str(tmp_path / "lines"), "--out", str(tmp_path / "out.npy")]
    assert main([*words, "--precision", "fp32", "--prompt", "query"]) == 0
    expected = encoder.encode(["the man runs", "the man eats"])
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-6)
    assert main(["card", str(tmp_path / "model")]) == 0
    assert "encoder.encode_query([" in capsys.readouterr().out


def test_export_accepts_the_output_folder_after_the_options(model, tmp_path, capsys):
    out = str(tmp_path / "small")
    assert main(["export", model, "--layers", "2", "--dim", "8", out]) == 0
    assert zoo.from_pretrained(out).encode(["the dog"]).shape == (1, 8)
    assert main(["export", model, "--layers", "9", str(tmp_path / "no")]) == 1
    assert "outside 1…3" in capsys.readouterr().err


def test_evaluate_exits_1_when_at_least_is_missed(model, tmp_path, capsys):
    rows = [{"a": a, "b": tiny.SENTENCES[i - 3], "gold": i % 5} for i, a in enumerate(tiny.SENTENCES)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    tiny.backbone(tmp_path / "backbone")
    recipe = tiny_run.recipe(tmp_path)
    assert main(["evaluate", model, str(recipe), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["results"]) == 2
    recipe.write_text(recipe.read_text().replace("task: sts", "task: sts\n  at_least: 1.0"))
    assert main(["evaluate", model, "--layers", "2", str(recipe)]) == 1
    assert "below the 1.0" in capsys.readouterr().err


def test_evaluate_checks_that_the_model_exists_before_it_reads_data(capsys, tmp_path):
    assert main(["evaluate", str(tmp_path / "no-model"), "STSBenchmark"]) == 1
    assert "no-model" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "no-model"), "STSBenchmrk"]) == 1
    assert "did you mean STSBenchmark" in capsys.readouterr().err


def test_relative_paths_start_at_the_folder_of_each_recipe(model, tmp_path, capsys):
    for name, count in (("one", 30), ("two", 60)):
        folder = tmp_path / name
        folder.mkdir()
        rows = [{"a": a, "b": tiny.SENTENCES[i - 3], "gold": i % 5} for i, a in enumerate(tiny.SENTENCES[:count])]
        (folder / "pairs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        tiny.backbone(folder / "backbone")
        task = {"task": "sts", "name": name, "data": {"source": "file", "path": "pairs.jsonl"}}
        task["data"]["columns"] = {"sentence1": "a", "sentence2": "b", "score": "gold"}
        tiny_run.recipe(folder, evaluation=[task])
    recipes = [str(tmp_path / name / "recipe.yaml") for name in ("one", "two")]
    assert main(["evaluate", model, *recipes, "--json"]) == 0
    together = json.loads(capsys.readouterr().out)["results"]
    alone = []
    for recipe in recipes:
        assert main(["evaluate", model, recipe, "--json"]) == 0
        alone += json.loads(capsys.readouterr().out)["results"]
    assert [r["value"] for r in together] == [r["value"] for r in alone]
    assert together[0]["data_revision"] != together[1]["data_revision"]
    assert main(["evaluate", model, recipes[0], recipes[0]]) == 1
    assert "two tasks are called" in capsys.readouterr().err


def test_a_dry_run_of_push_shows_the_files_and_the_card(model, tmp_path, capsys):
    model = str(shutil.copytree(model, tmp_path / "model"))
    assert main(["push", model, "me/tiny", "--dry-run"]) == 0
    assert "There is no README.md" in capsys.readouterr().out
    assert main(["card", model, "--write"]) == 0
    assert capsys.readouterr().out.startswith("---")
    assert main(["push", model, "me/tiny", "--dry-run"]) == 0
    output = capsys.readouterr().out
    size = (Path(model) / "model.safetensors").stat().st_size
    assert f"{size:,}  model.safetensors" in output
    assert (Path(model) / "README.md").read_text().strip() in output


def test_an_error_is_printed_in_one_line(capsys, tmp_path):
    for words in (["train", "nowhere.yaml"], ["card", str(tmp_path / "x")], ["evaluate", "package:unheard"]):
        assert main(words) == 1
        err = capsys.readouterr().err
        assert err.startswith("error: ")
        assert err.count("\n") == 1


def test_an_access_token_on_the_command_line_is_refused_and_not_shown(capsys):
    token = "hf_" + "x" * 34
    assert main(["push", "model", token]) == 1
    output = capsys.readouterr()
    assert "revoke it" in output.err
    assert token not in output.err + output.out


def test_after_ctrl_c_a_message_says_that_the_run_can_be_resumed(monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("zoo.build.builder.run", interrupt)
    assert main(["train", "quickstart"]) == 130
    assert "goes on from the last checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("is_asked", [False, True])
def test_train_finishes_from_the_newest_checkpoint_if_asked(is_asked, tmp_path, monkeypatch):
    from zoo.build import builder

    passed = []
    monkeypatch.setattr(builder, "run", lambda recipe, out, **options: passed.append(options["finish"]))
    words = ["train", "quickstart", "--out", str(tmp_path / "run"), *["--finish"] * is_asked]
    assert main(words) == 0
    assert passed == [is_asked]
