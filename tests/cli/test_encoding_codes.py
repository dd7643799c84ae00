"""Codes on the command line: `zoo encode --codes`, `zoo evaluate --codes`, and a view that is exported without steps."""

from __future__ import annotations

import json

import after_steps
import numpy as np
import pytest
import tiny

import zoo
from zoo.after.material import Material
from zoo.artefact import manifest
from zoo.cli.main import main


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model that has the step int8, its texts, and pairs of a query and a document."""
    folder = tmp_path_factory.mktemp("codes")
    encoder = zoo.from_pretrained(tiny.backbone(folder / "backbone"))
    vectors = encoder.prepare_vectors(encoder.encode_document(tiny.SENTENCES))
    encoder.attach_steps([after_steps.fit("int8", Material(vectors))])
    model = encoder.save(folder / "model")
    lock = [{"step": "int8", "kind": "codes", "bytes_per_vector": 32, "first_bytes": 32, "facts": {}}]
    (model / "lock.json").write_text(json.dumps({"format": 1, "after": lock}))
    (model / "report.json").write_text(json.dumps({"format": 1, "results": [], "codes": [{"task": "t"}]}))
    manifest.write(model)
    (folder / "lines.txt").write_text("\n".join(tiny.SENTENCES) + "\n")
    rows = [{"query": text, "document": f"{text} acute"} for text in tiny.SENTENCES[:40]]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_packed_codes_are_written(place, tmp_path):
    out = tmp_path / "codes.npy"
    assert (
        main(["encode", str(place / "model"), "--codes", "--input", str(place / "lines.txt"), "--out", str(out)]) == 0
    )
    codes = np.load(out)
    assert codes.dtype == np.uint8
    assert np.array_equal(codes, zoo.from_pretrained(place / "model").codes(tiny.SENTENCES))


def test_a_model_without_codes_is_told_so_before_anything_is_read(place, tmp_path, capsys):
    words = ["--codes", "--input", str(place / "lines.txt"), "--out", str(tmp_path / "codes.npy")]
    assert main(["encode", str(place / "backbone"), *words]) == 1
    assert main(["encode", str(place / "model"), "--layers", "2", *words]) == 1
    err = capsys.readouterr().err
    assert "the encoder has no codes" in err
    assert "not on those of the view layers=2" in err
    assert not (tmp_path / "codes.npy").exists()


def test_a_task_is_scored_with_codes_too(place, capsys):
    task = ["retrieval", "data.source=file", f"data.path={place / 'pairs.jsonl'}"]
    assert main(["evaluate", str(place / "model"), *task, "--codes", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["codes"]
    assert (entry["step"], entry["bytes_per_vector"], entry["float_bytes"]) == ("int8", 32, 128)
    assert abs(entry["value"] - entry["float_value"]) < 0.02
    assert main(["evaluate", str(place / "model"), *task, "--codes"]) == 0
    assert "with codes of documents" in capsys.readouterr().out
    assert main(["evaluate", str(place / "backbone"), *task, "--codes"]) == 1
    assert "has no codes" in capsys.readouterr().err


def test_an_exported_cut_has_no_steps_and_the_whole_keeps_them(place, tmp_path, capsys):
    assert main(["export", str(place / "model"), "--layers", "2", str(tmp_path / "cut")]) == 0
    assert "left out int8" in capsys.readouterr().err
    assert not (tmp_path / "cut" / "after").exists()
    assert "after" not in json.loads((tmp_path / "cut" / "lock.json").read_text())
    assert main(["export", str(place / "model"), str(tmp_path / "whole")]) == 0
    assert "left out" not in capsys.readouterr().err
    whole = zoo.from_pretrained(tmp_path / "whole")
    assert np.array_equal(whole.codes(tiny.SENTENCES), zoo.from_pretrained(place / "model").codes(tiny.SENTENCES))
    assert "after" in json.loads((tmp_path / "whole" / "lock.json").read_text())
