"""Every shipped recipe: it opens with its command, it checks, an editor's schema takes it, and what needs no download trains."""

from __future__ import annotations

import gzip
import json

import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import zoo
from zoo.core import located_yaml
from zoo.core.errors import ZooError
from zoo.recipe import recipe, shipped

SHIPPED = shipped.shipped()
LIGHT = {  # recipes that need no download, in miniature
    "quickstart": [
        "data.limit=200",
        "validation=20",
        "training.max_steps=2",
        "evaluation.0.data.limit=20",
        "evaluation.0.corpus.limit=50",
    ],
    "lbl2vec-icd10cm": ["data.limit=200", "evaluation.0.data.limit=50"],
    "sesa-icd10cm": [
        "data.limit=200",
        "encoder.held_out.limit=50",
        "training.max_steps=2",
        "evaluation.0.data.limit=20",
        "evaluation.0.corpus.limit=50",
    ],
    "vlm2vec-icons": [
        "data.limit=64",
        "training.max_steps=2",
        "training.batch_size=16",
        *(f"evaluation.{i}.data.limit=20" for i in range(4)),
        "evaluation.0.corpus.limit=30",
    ],
    "equiangular-digits": ["data.limit=200", "training.max_steps=3", "evaluation.0.at_least=0"],
    "latent-quantized-sprites": [
        "data.limit=200",
        "validation=0.1",
        "training.max_steps=2",
        "evaluation.0.data.limit=100",
    ],
    "latent-quantized-scenes": [
        "data.limit=200",
        "validation=0.1",
        "training.max_steps=2",
        "training.batch_size=8",
        "encoder.network=small",
        "encoder.baselines=[gaussian, vector]",
        "evaluation.0.data.limit=100",
    ],
    "binary-pv-icd10cm": ["data.limit=200", "training.epochs=1", "evaluation.0.data.limit=100"],
}


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A data folder in which every file that a recipe reads below $ZOO_DATA is there, with all the columns it could want."""
    wanted: dict[str, dict[str, object]] = {}

    def look(value):
        if isinstance(value, dict) and str(value.get("path")).startswith("$ZOO_DATA/"):
            row = wanted.setdefault(value["path"], {"text": "a", "label": 1, "label_text": "b"})
            row |= dict.fromkeys([*value.get("columns", {}).values(), *value.get("where", {})], "a")
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            look(inner)

    for path in SHIPPED.values():
        look(located_yaml.parse(path.read_text(encoding="utf-8")).value)
    for name, row in wanted.items():
        file = tmp_path / name.removeprefix("$ZOO_DATA/")
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".npy":
            np.save(file, np.ones((2, 3), dtype=np.float32))
            continue
        if file.suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist([{**row, "image": b"x"}]), file)
            continue
        content = json.dumps({**row, "image": "x.png"}).encode()
        if "images-idx" in file.name:
            content = bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 7])
            labels = file.with_name(file.name.replace("images-idx3", "labels-idx1"))
            labels.write_bytes(gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 1, 7])))
        file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_recipe_starts_with_its_command_and_its_dump_loads_as_the_same_recipe(name, stand_in):
    path = SHIPPED[name]
    first, second = path.read_text(encoding="utf-8").splitlines()[:2]
    assert first == f"# zoo train recipes/{path.name}"
    assert second.startswith("# "), "what `zoo list` says of it"
    loaded = recipe.load(path)
    assert loaded.name == name
    assert recipe.loads(loaded.dump(), folder=path.parent) == loaded


@pytest.mark.parametrize("name", SHIPPED)
def test_the_schema_accepts_the_recipe_and_rejects_a_misspelt_key(name):
    schema = recipe.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    editor = jsonschema.Draft202012Validator(schema)
    value = located_yaml.parse(SHIPPED[name].read_text(encoding="utf-8")).value
    assert [error.message for error in editor.iter_errors(value)] == []
    for section in ("encoder", "data", "card"):
        assert list(editor.iter_errors({**value, section: {**value[section], "oops": 1}})), section


@pytest.mark.parametrize("name", LIGHT)
def test_a_short_run_trains_scores_and_writes_the_card(name, tmp_path):
    encoder = zoo.train(recipe.load(SHIPPED[name], *LIGHT[name]), tmp_path / "run")
    example = "a broken arm" if "text" in encoder.modalities else np.zeros((8, 8), np.uint8)
    assert encoder.encode([example]).shape[0] == 1
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert len(report["results"]) == sum(len(task.views) for task in recipe.load(SHIPPED[name]).evaluation)
    assert (tmp_path / "run" / "model" / "README.md").is_file()


def test_every_recipe_without_a_download_has_a_short_run():
    """A recipe whose backbone and data are installed must be in LIGHT."""
    for name, path in SHIPPED.items():
        text = path.read_text(encoding="utf-8")
        assert ("source: hub" in text or "$ZOO_DATA" in text) != (name in LIGHT), name


def test_an_unknown_recipe_name_gets_a_suggestion():
    with pytest.raises(ZooError, match="did you mean quickstart"):
        zoo.load_recipe("quikstart")
