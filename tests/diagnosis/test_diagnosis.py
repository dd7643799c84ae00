"""The verdict names planted faults and accuses no healthy vectors; the verb prints it."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import tiny
import tiny_dense
from pydantic import TypeAdapter

from zoo import evaluation
from zoo.artefact import model_folder
from zoo.cli.main import main
from zoo.core.errors import ZooError
from zoo.diagnosis.diagnosis import diagnose
from zoo.diagnosis.of_encoder import FloatVectors
from zoo.diagnosis.space_watch import check_figures
from zoo.evaluation.spec import Task

pytest.importorskip("skdim")


def draw_vectors(seed, rows=1500, dim=64):
    """Vectors (rows, dim) like those of a sentence encoder: eight dimensions, topics, and a weak common direction."""
    rng = np.random.default_rng(seed)
    topics = rng.standard_normal((40, 8))
    inner = topics[rng.integers(0, 40, rows)] + 0.6 * rng.standard_normal((rows, 8))
    layer = rng.standard_normal((8, 64)) / np.sqrt(8), rng.standard_normal((64, dim)) / 8
    return np.tanh(inner @ layer[0]) @ layer[1] + 0.2 * rng.standard_normal(dim)


def spoil_by_collapse(vectors, rng):
    return 1e-3 * vectors + rng.standard_normal(vectors.shape[1])


def spoil_by_cone(vectors, rng):
    return vectors + 2 * rng.standard_normal(vectors.shape[1])


def spoil_by_noise(vectors, rng):
    return vectors + 1.5 * vectors.std() * rng.standard_normal(vectors.shape)


def spoil_by_repetition(vectors, rng):
    return np.vstack([vectors, vectors[rng.permutation(len(vectors))[: int(0.3 * len(vectors))]]])


def spoil_by_dead_units(vectors, rng):
    spoiled = vectors.copy()
    spoiled[:, rng.permutation(vectors.shape[1])[:8]] = 0.1
    return spoiled


FAULTS = {
    "all inputs have nearly one vector": spoil_by_collapse,
    "share one direction": spoil_by_cone,
    "look noisy": spoil_by_noise,
    "have the vector of an earlier one": spoil_by_repetition,
    "8 of 64 components have one value": spoil_by_dead_units,
}


@pytest.mark.parametrize("seed", range(10))
def test_planted_faults_are_named_and_healthy_vectors_are_not_accused(seed):
    vectors, rng = draw_vectors(seed), np.random.default_rng(1000 + seed)
    assert diagnose(vectors).findings == ()
    for message, spoil in FAULTS.items():
        findings = diagnose(spoil(vectors, rng)).findings
        assert any(message in finding.message for finding in findings), (message, findings)


def test_only_a_collapsed_encoder_is_dead():
    vectors, rng = draw_vectors(0), np.random.default_rng(0)
    dead = {message for message, spoil in FAULTS.items() if diagnose(spoil(vectors, rng)).is_dead}
    assert dead == {"all inputs have nearly one vector"}


def test_a_missing_library_is_named_and_not_taken_for_too_few_vectors(monkeypatch):
    monkeypatch.setitem(sys.modules, "skdim", None)
    with pytest.raises(ZooError, match=r'pip install "embedding-zoo\[diagnose\]"'):
        diagnose(draw_vectors(0))
    assert diagnose(draw_vectors(0)[:50]).neighbourhood is None


def test_repeated_inputs_are_not_blamed_on_the_encoder():
    class Lengths:
        def encode(self, texts):
            return np.array([[len(text), 1.0] for text in texts])

    found = diagnose(Lengths(), ["a", "bb", "a", "ccc"])
    assert (found.rows, found.repeated_inputs, found.equal_vectors) == (3, 1, 0)


@pytest.mark.parametrize(
    ("source", "inputs", "message"),
    [
        (np.ones((3, 4), np.uint8), None, "decode codes first"),
        (np.ones((1, 4)), None, "1 vectors cannot be compared"),
        (np.ones((3, 4)), ["a"], "belong to an encoder"),
    ],
)
def test_sources_that_cannot_be_diagnosed_are_named(source, inputs, message):
    with pytest.raises(ZooError, match=message):
        diagnose(source, inputs)


def test_the_verb_diagnoses_a_file_and_the_views_of_a_model(tmp_path, capsys):
    np.save(tmp_path / "vectors.npy", draw_vectors(1, 300).astype(np.float32))
    assert main(["diagnose", str(tmp_path / "vectors.npy")]) == 0
    assert "no fault was found" in capsys.readouterr().out
    np.save(tmp_path / "dead.npy", np.ones((300, 4), np.float32))
    assert main(["diagnose", str(tmp_path / "dead.npy")]) == 1
    model = model_folder.save(tiny_dense.build(tmp_path, dims=(8, 16)), tmp_path / "model")
    (tmp_path / "texts.txt").write_text("\n".join(tiny.SENTENCES))
    capsys.readouterr()
    main(["diagnose", str(model), "--data", str(tmp_path / "texts.txt"), "--across", "dim=8,16", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [(entry["name"], entry["dim"]) for entry in found] == [("dim=8", 8), ("dim=16", 16)]
    assert main(["diagnose", str(model)]) == 1
    assert "has no recipe whose rows could be taken; give a file of inputs" in capsys.readouterr().err


def test_a_few_labels_say_which_view_tells_classes_apart(tmp_path, capsys):
    model = model_folder.save(tiny_dense.build(tmp_path, dims=(2, 16)), tmp_path / "model")
    (tmp_path / "texts.txt").write_text("\n".join(tiny.SENTENCES))
    rows = [f"{text},{text.split()[0]}" for text in tiny.SENTENCES]
    (tmp_path / "few.csv").write_text("\n".join(["text,label", *rows, ""]))
    words = ["diagnose", str(model), "--data", str(tmp_path / "texts.txt"), "--labels", str(tmp_path / "few.csv")]
    main([*words, "--across", "dim=2,16", "--json"])
    small, large = json.loads(capsys.readouterr().out)
    assert small["few_shot"]["results"][0]["high"] < large["few_shot"]["results"][0]["low"]
    main([*words, "--across", "dim=2,16"])
    assert "of each of 5 classes, dim=16 is best: " in capsys.readouterr().out
    main(words)
    assert "the nearest class mean is right for " in capsys.readouterr().out
    (tmp_path / "few.csv").write_text("text,label\nthe dog,a\n")
    assert main(words) == 1
    assert "two classes need at least two labelled rows" in capsys.readouterr().err


def test_runs_of_one_model_are_ordered_and_different_models_are_not(tmp_path, capsys):
    small = model_folder.save(tiny_dense.build(tmp_path, dims=(8, 16)), tmp_path / "run" / "model").parent
    other = model_folder.save(tiny_dense.build(tmp_path, dims=(4,)), tmp_path / "other")
    (tmp_path / "texts.txt").write_text("\n".join(tiny.SENTENCES))
    data = ["--data", str(tmp_path / "texts.txt")]
    picture = tmp_path / "space.png"
    main(["diagnose", str(small), *data, "--across", "dim=8,16", "--sort", "vendi", "--picture", str(picture)])
    assert capsys.readouterr().out.split("\n")[0].split()[1:3] == ["dim=16", "dim=8"]
    assert picture.read_bytes()[:4] == b"\x89PNG"
    main(["diagnose", str(small), str(small / "model"), *data])
    assert "They do not say which of two models is better." in capsys.readouterr().out
    main(["diagnose", str(small), str(other), *data])
    assert "These are different models" in capsys.readouterr().out
    assert main(["diagnose", str(small), str(other), *data, "--sort", "vendi"]) == 1
    assert "these are 2 different models, and no figure without labels says which is better" in capsys.readouterr().err
    assert main(["diagnose", str(small), *data, "--sort", "vendu"]) == 1
    assert "did you mean vendi" in capsys.readouterr().err


def test_bits_are_diagnosed_as_signs():
    class Codes:
        similarity_fn_name, dim = "hamming", 8

        def encode(self, texts):
            return np.array([[number] for number in range(len(texts))], np.uint8)

        def as_float_vectors(self, vectors):
            return vectors

    found = diagnose(FloatVectors(Codes()), [str(number) for number in range(256)])
    assert found.dim == 8
    assert found.spectrum.vendi == pytest.approx(8)
    assert found.variances == tuple((number, pytest.approx(1 / 8)) for number in range(1, 9))


def test_the_figures_of_a_task_are_those_of_the_library_and_a_baseline_is_no_bar(tmp_path, monkeypatch):
    encoder = tiny_dense.build(tmp_path, dims=(8, 16))
    rows = "".join(json.dumps({"text": text}) + "\n" for text in tiny.SENTENCES)
    (tmp_path / "rows.jsonl").write_text(rows)
    entry = {"task": "diagnose", "data": {"source": "file", "path": "rows.jsonl"}, "views": [{}, {"dim": 8}]}
    report = evaluation.evaluate(encoder, [TypeAdapter(Task).validate_python(entry)], folder=tmp_path)
    whole, cut = report["results"]
    found = diagnose(encoder, tiny.SENTENCES)
    assert whole["value"] == pytest.approx(found.spectrum.vendi)
    assert whole["figures"]["rankme"] == pytest.approx(found.spectrum.rankme)
    assert cut["value"] < whole["value"]
    assert "verdict" not in whole
    assert not report["free_baselines"]
    assert whole["details"]["remarks"] == [str(finding) for finding in found.findings]
    task = TypeAdapter(Task).validate_python({**entry, "at_least": "baseline"})
    assert [path for path, _ in task.find_mistakes(tmp_path)] == [("at_least",)]
    monkeypatch.setattr("zoo.core.scikit_dimension.find_problem", lambda: "it is missing")
    assert (("task",), "it is missing") in task.find_mistakes(tmp_path)
    with pytest.raises(ZooError, match=r"training.watch: it is missing, or leave these figures out"):
        check_figures(("rankme", "hubness"))
    check_figures(("rankme",))
