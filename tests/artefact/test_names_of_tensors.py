"""Names of tensors in a checkpoint and in its model, compared without torch."""

from __future__ import annotations

import warnings

import pytest

from zoo.artefact import weight_names, weights_look
from zoo.artefact.headers import Entry
from zoo.artefact.weight_names import Names, find_prefix
from zoo.core.errors import ArtefactError, WeightsWarning

EXPECTED = {"embeddings.weight": (3, 2), "layer.0.LayerNorm.weight": (2,), "layer.0.LayerNorm.bias": (2,)}


def make_entries(shapes=EXPECTED, prefix="", dtype="F32"):
    return {prefix + name: Entry(shape, dtype) for name, shape in shapes.items()}


@pytest.mark.parametrize("prefix", ["", *weight_names.WRAPPERS, "module._orig_mod.", "module.model."])
@pytest.mark.parametrize("base_prefix", ["", "bert."])
def test_a_wrappers_prefix_is_found_also_before_that_of_transformers(tmp_path, prefix, base_prefix):
    entries = make_entries(prefix=prefix + base_prefix)
    assert find_prefix(entries, EXPECTED, base_prefix) == prefix
    names = weight_names.check(tmp_path, entries, EXPECTED, base_prefix)
    assert names == Names(prefix, ())
    mapping = {"": {}, "0.model.": {r"^0\.model\.": ""}}
    assert names.key_mapping == mapping.get(prefix, names.key_mapping)


def test_no_prefix_is_removed_without_a_gain():
    assert find_prefix(["module.a", "b"], ["b"]) == ""
    assert find_prefix(["module.a", "module.b", "a"], ["a", "b"]) == "module."
    assert find_prefix(["model.a"], ["model.a"]) == ""
    assert find_prefix(["x"], ["a"]) == ""


def test_old_names_of_layer_norms_are_those_of_the_model(tmp_path):
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        for name in EXPECTED
    }
    assert len(old - EXPECTED.keys()) == 2
    entries = {name: Entry((3, 2) if name.startswith("e") else (2,), "F32") for name in sorted(old)}
    assert weight_names.check(tmp_path, entries, EXPECTED) == Names("", ())


def test_unexpected_tensors_are_told_but_not_positions(tmp_path):
    entries = make_entries() | {"cls.bias": Entry((1,), "F16"), "embeddings.position_ids": Entry((1, 9), "I64")}
    assert weight_names.check(tmp_path, entries, EXPECTED) == Names("", ("cls.bias",))


def test_missing_tensors_are_listed_up_to_four_and_a_pooler_may_be_missing(tmp_path):
    expected = {f"w{i}": None for i in range(6)} | {"pooler.dense.weight": (1,), "a.mask_token": (1,)}
    stored = {"w0": Entry((5,), "F32"), "b": Entry((5,), "F32"), "a": Entry((5,), "F32")}
    message = (
        "lack 5 tensors of the model that config.json describes: w1, w2, w3, w4 and 1 more; they hold names such as a: "
    )
    with pytest.raises(ArtefactError, match=message):
        weight_names.check(tmp_path, stored, expected)
    with pytest.raises(
        ArtefactError, match="the weights lack 1 tensor of the model .*: w1; they hold names such as w0: save"
    ):
        weight_names.check(tmp_path, {"w0": stored["w0"]}, {"w0": (5,), "w1": (5,)})
    assert weight_names.describe_missing(tmp_path, ["x" * 120], ["a"]).count("x") == 100 + "config.json".count("x")


def test_a_shape_is_compared_if_the_config_gives_it(tmp_path):
    weight_names.check(tmp_path, make_entries(), dict.fromkeys(EXPECTED))
    with pytest.raises(
        ArtefactError, match=r"tensor embeddings.weight has shape \(3, 2\), but config.json describes \(3, 3\)"
    ):
        weight_names.check(tmp_path, make_entries(), EXPECTED | {"embeddings.weight": (3, 3)})


@pytest.mark.parametrize("end", ["weight", "bias", "gamma", "beta", "scale"])
@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16", "I64", "I32", "U8", "BOOL", "I8", "U16"])
def test_weights_are_floats_and_buffers_may_be_some_kinds_of_integers(tmp_path, end, dtype):
    entries = make_entries({f"a.{end}": (2,)}, dtype=dtype)
    if dtype in ("F64", "F32", "F16", "BF16") or (end == "scale" and dtype in ("I64", "I32", "U8", "BOOL")):
        weight_names.check_dtypes(tmp_path, entries)
    else:
        with pytest.raises(
            ArtefactError, match=f"a.{end} is stored as {dtype}, but weights must be one of F64, F32, F16, BF16;"
        ):
            weight_names.check_dtypes(tmp_path, entries)
        with pytest.raises(ArtefactError, match="is stored as"):
            weight_names.check(tmp_path, entries, {})


def test_what_is_removed_and_ignored_is_told():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weight_names.tell("me/a", Names("", ()))
    with pytest.warns(WeightsWarning) as caught:
        weight_names.tell("me/a", Names("module.", ("a", "b")))
    assert [str(warning.message) for warning in caught] == [
        "backbone me/a: the names of its tensors begin with `module.`, which is removed",
        "backbone me/a: 2 tensors are not part of the model and ignored: a, b",
    ]
    assert {warning.filename for warning in caught} == {__file__}
    with pytest.warns(WeightsWarning, match="1 tensor is not part of the model and ignored: a$"):
        weight_names.tell("me/a", Names("", ("a",)))


# -- gaps in numbered lists --------------------------------------------------------------------------------------------


def list_names(*numbers, path="encoder.layer", parts=("a.weight", "a.bias", "b.weight", "b.bias")):
    return [f"{path}.{number}.{part}" for number in numbers for part in parts]


def test_gaps_are_blocks_and_tensors_in_the_middle_of_a_list():
    assert weights_look.find_gaps(list_names(0, 1, 2)) == []
    assert weights_look.find_gaps(list_names(0, 2, 3)) == ["encoder.layer.1"]
    assert weights_look.find_gaps(list_names(1, 2)) == ["encoder.layer.0"]
    lacking = [name for name in list_names(0, 1, 2) if name != "encoder.layer.1.a.bias"]
    assert weights_look.find_gaps([*lacking, "encoder.layer.1.c.weight"]) == ["encoder.layer.1.a.bias"]
    at_the_end = [name for name in list_names(0, 1, 2) if name != "encoder.layer.2.a.bias"]
    assert weights_look.find_gaps([*at_the_end, "encoder.layer.2.c.weight"]) == []


def test_small_blocks_and_leading_numbers_are_no_list_of_blocks():
    assert weights_look.find_gaps(list_names(0, 2, parts=("a", "b", "c"))) == []
    assert weights_look.find_gaps([f"{number}.{part}" for number in (0, 2) for part in "abcd"]) == []
    assert dict(weights_look._list_blocks(list_names(0, 1, path="x"))) == {
        "x": {number: {"a.weight", "a.bias", "b.weight", "b.bias"} for number in (0, 1)}
    }
