"""Mistakes in `after:` have a place and a cure, and no step is imported for them but its Spec."""

from __future__ import annotations

import csv
import subprocess
import sys
from typing import ClassVar

import jsonschema
import pytest
import tiny

from zoo import after
from zoo.after.spec import StepSpec
from zoo.core.errors import RecipeError
from zoo.recipe import recipe, role_sources, step_checks

GOOD = """\
name: small
encoder: {family: static, backbone: backbone, dim: 16}
data: {source: file, path: pairs.csv}
after: []
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("steps")
    tiny.backbone(base / "backbone")
    with (base / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("anchor", "positive"), ("a dog", "the dog"), ("a cat", "the cat")])
    (base / "texts.csv").write_text("document,other\na dog,1\n")
    return base


def load(folder, steps, *changes, text=GOOD):
    return recipe.loads(text, f"after={steps}", *changes, folder=folder)


def find_problems(folder, steps, *changes, text=GOOD):
    with pytest.raises(RecipeError) as caught:
        load(folder, steps, *changes, text=text)
    return [line.partition(": after")[2] for line in caught.value.problems]


@pytest.mark.parametrize(
    ("steps", "line"),
    [
        ("[int9]", ".0: 'int9' is not one of binary"),
        ("[{clip: .1}]", ".0: `step` is missing; it is one of binary"),
        ("[{step: int8, clp: .1}]", ".0.clp: unknown key; did you mean clip?"),
        ("[{step: int8, clip: .7}]", ".0.clip: must be less than 0.5, not 0.7"),
        ("[{step: binary, query: bits}]", ".0.query: 'bits' is not one of float, signs"),
        ("[int8, binary]", ".1: binary turns vectors into codes, and so does int8 of after.0; keep one of them"),
        ("int8", ": must be a list, not 'int8'"),
        ("[{step: int8, data: {source: file, path: text.csv}}]", ".0.data.path: "),
        ("[{step: int8, data: {source: file, path: pairs.csv}}]", ".0.data.columns: needs a column 'document'"),
        ("[{step: int8, data: {source: file, path: texts.csv, mine: {}}}]", ".0.data.mine: only training rows"),
    ],
)
def test_a_mistake_has_its_place_and_a_cure(folder, steps, line):
    assert [found for found in find_problems(folder, steps) if found.startswith(line)]


def test_a_bare_name_is_a_step_with_its_defaults(folder):
    loaded = load(folder, "[int8]")
    assert loaded.after == (after.load_spec("int8")(step="int8"),)
    assert recipe.loads(loaded.dump(), folder=folder) == loaded
    changed = recipe.loads(GOOD.replace("[]", "[int8]"), "after.0.clip=.01", folder=folder)
    assert changed.after[0].clip == 0.01


def test_the_roles_of_a_step_are_shown(folder):
    loaded = load(folder, "[{step: int8, data: {source: file, path: texts.csv}}]")
    assert "after.0.data (texts.csv): document" in role_sources.describe_roles(loaded)


@pytest.mark.parametrize("family", ["binary-pv", "latent-quantized"])
def test_a_family_of_codes_takes_no_step(folder, family):
    text = GOOD.replace("{family: static, backbone: backbone, dim: 16}", f"{{family: {family}}}")
    assert any(
        line.startswith(f".0: a step takes float vectors, and {family}: ")
        for line in find_problems(folder, "[int8]", text=text)
    )


class Scores(StepSpec):
    kind: ClassVar = "scores"
    needs: ClassVar = ("documents", "queries", "answers", "foreign")


def test_a_step_of_scores_comes_after_the_codes():
    int8, scores = after.load_spec("int8")(step="int8"), Scores(step="scores")
    messages = list(step_checks._check_order([(("after", 0), scores), (("after", 1), int8)]))
    assert messages == [(("after", 0), "scores maps scores, and after.1 changes them: put it after that step")]
    assert not list(step_checks._check_order([(("after", 0), int8), (("after", 1), scores)]))


def test_a_step_that_needs_pairs_names_the_missing_data(folder):
    spec = recipe.loads(GOOD, folder=folder).encoder
    topics = spec.model_copy()
    assert not list(step_checks._check_family([(("after", 0), Scores(step="scores"))], topics))
    from zoo.families.lbl2vec.spec import Spec

    (mistake,) = step_checks._check_family(
        [(("after", 0), Scores(step="scores"))], Spec(family="lbl2vec", labels={"a": ["b"], "c": ["d"]})
    )
    assert "give `data`, a data section with `document` and `query`" in mistake[1]
    (foreign,) = step_checks._check_data(Scores(step="scores"), spec, folder)
    assert "give them as `none`" in foreign[1]


def test_a_recipe_of_a_stranger_reads_no_file_outside_for_a_step(folder):
    text = GOOD.replace("[]", "[{step: int8, data: {source: file, path: ../texts.csv}}]")
    with pytest.raises(RecipeError, match=r"after.0.data.path: leaves the folder"):
        recipe.loads(text, folder=folder, confined=True)


def test_the_schema_knows_every_step():
    schema = recipe.schema()
    value = {"name": "a", "encoder": {"family": "static", "backbone": "b"}, "data": {"source": "file", "path": "p"}}
    for steps in (["int8"], [{"step": "binary", "rescore": "int8"}]):
        jsonschema.validate(value | {"after": steps}, schema)
    for steps in (["int9"], [{"step": "int8", "clap": 1}]):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(value | {"after": steps}, schema)


def test_listing_and_checking_steps_imports_no_torch(folder):
    (folder / "r.yaml").write_text(GOOD.replace("[]", "[int8]"))
    code = (
        "import sys; from zoo.cli.main import main; "
        f"main(['list']); main(['show', 'int8']); main(['check', {str(folder / 'r.yaml')!r}]); "
        "print('torch' in sys.modules, 'numpy' in sys.modules and 'zoo.after.int8.step' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "False False"
    assert any(line.split()[:4] == ["int8", "A", "byte", "for"] for line in out.splitlines())
