"""Every shipped recipe: it opens with its command, it checks, an editor's schema takes it, and what needs no download trains."""

from __future__ import annotations

import gzip
import json
import warnings
from collections.abc import Iterator
from typing import Any

import card_commands
import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import zoo
from zoo import families
from zoo.core import located_yaml
from zoo.core.errors import UnreadFieldWarning, ZooError
from zoo.recipe import recipe, shipped

SHIPPED = shipped.shipped()
NEEDS_DOWNLOAD = ("source: hub", "$ZOO_DATA")
LIGHT = [
    name
    for name, path in SHIPPED.items()
    if not any(word in path.read_text(encoding="utf-8") for word in NEEDS_DOWNLOAD)
]


def shrink(recipe_value: dict[str, Any]) -> list[str]:
    """Overrides that make a small run of any recipe: few rows, two steps, small batches, and no score to reach.

    Sections that rows of others refer to keep their rows: knowledge of `encoder:`, and the training rows of a task.
    """
    overrides = ["training.max_steps=2", "training.epochs=1", "training.batch_size=16"]
    if "validation" in recipe_value:
        overrides.append("validation=20")
    for place, section in list_sections(recipe_value):
        path = ".".join(map(str, place))
        if "source" in section and ("holdout" in section if place[0] == "encoder" else place[-1] in ("data", "corpus")):
            overrides.append(f"{path}.limit={200 if place == ('data',) else 50}")
        if "at_least" in section:
            overrides.append(f"{path}.at_least=0")
    return overrides


def list_sections(
    value: Any, place: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], dict[str, Any]]]:
    """Yield every mapping inside a recipe with its path."""
    if isinstance(value, dict):
        yield place, value
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield from list_sections(entry, (*place, key))


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
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnreadFieldWarning)
        loaded = recipe.load(path)
        assert recipe.loads(loaded.dump(), folder=path.parent) == loaded
    assert loaded.name == name


@pytest.mark.parametrize("name", SHIPPED)
def test_the_schema_accepts_the_recipe_and_rejects_a_misspelt_key(name):
    schema = recipe.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    editor = jsonschema.Draft202012Validator(schema)
    value = located_yaml.parse(SHIPPED[name].read_text(encoding="utf-8")).value
    assert [error.message for error in editor.iter_errors(value)] == []
    for section in ("encoder", "data", "card"):
        assert list(editor.iter_errors({**value, section: {**value[section], "oops": 1}})), section


@pytest.fixture
def small_vocabulary(monkeypatch):
    """A static model is distilled from every tenth token only."""
    from zoo.families.static import distillation

    list_all = distillation.list_token_ids
    monkeypatch.setattr(distillation, "list_token_ids", lambda body: list_all(body)[::10])


@pytest.mark.usefixtures("small_vocabulary")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "quickstart" else pytest.mark.slow) for name in LIGHT]
)
def test_in_miniature_it_trains_scores_and_documents(name, tmp_path):
    overrides = shrink(located_yaml.parse(SHIPPED[name].read_text(encoding="utf-8")).value)
    encoder = zoo.train(recipe.load(SHIPPED[name], *overrides), tmp_path / "run")
    held = "a broken arm" if "text" in encoder.modalities else np.zeros((8, 8), np.uint8)
    assert encoder.encode([held]).shape[0] == 1
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert len(report["results"]) == sum(len(task.views) for task in recipe.load(SHIPPED[name]).evaluation)
    verbs = card_commands.run_commands(tmp_path / "run", tmp_path / "elsewhere", data=tmp_path)
    assert {"train", "reproduce"} <= set(verbs), "the card's own commands run where nothing but its recipe is"


def test_every_family_has_a_recipe_that_is_tried():
    families_tried = {recipe.load(SHIPPED[name]).encoder.family for name in LIGHT}
    assert families_tried == set(families.names())


def test_an_unknown_recipe_name_gets_a_suggestion():
    with pytest.raises(ZooError, match="did you mean quickstart"):
        zoo.load_recipe("quikstart")
