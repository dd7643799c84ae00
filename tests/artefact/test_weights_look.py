"""`zoo check` looks for gaps in the weights of an image or vision-language model whose architecture it does not know."""

from __future__ import annotations

import warnings

import pytest

from zoo.artefact import headers, tensors, weights_look
from zoo.artefact.headers import Entry
from zoo.core.errors import ArtefactError, WeightsWarning

PARTS = ("a.weight", "a.bias", "b.weight", "b.bias")


def list_names(count, path):
    return [f"{path}.{number}.{part}" for number in range(count) for part in PARTS]


@pytest.fixture
def look(tmp_path, monkeypatch):
    """Check weights with these names."""

    def check(names, config=None, dtype="F32"):
        entries = {name: Entry((2,), dtype) for name in names}
        monkeypatch.setattr(tensors, "list_pretrained_files", lambda folder: [folder / "model.safetensors"])
        monkeypatch.setattr(headers, "read_all", lambda paths: entries)
        weights_look.check("me/a", tmp_path, config or {})

    return check


@pytest.mark.parametrize(
    "root",
    [
        *(
            "embeddings",
            "embedder",
            "encoder",
            "layernorm",
            "layers",
            "layer",
            "blocks",
            "stages",
            "stem",
            "norm",
            "pooler",
        ),
        *(
            "vision_model",
            "vision_tower",
            "visual",
            "text_model",
            "language_model",
            "connector",
            "multi_modal_projector",
        ),
    ],
)
def test_a_wrapper_before_every_part_of_a_model_is_unknown(look, tmp_path, root):
    names = list_names(2, root)
    look([*names, "head.weight"])
    look(names)  # the part itself is no wrapper
    with pytest.raises(ArtefactError, match="the names of all tensors begin with 'wrapped', which does not belong"):
        look([f"wrapped.{name}" for name in names], {"model_type": "bert"})
    look([f"wrapped.{name.replace(root, 'unheard_of')}" for name in names], {"model_type": "bert"})


@pytest.mark.parametrize(
    ("part", "model_type"),
    [
        ("vit", "dino"),
        ("bert", "bert"),
        ("xlm_roberta", "xlm-roberta-xl"),
        ("siglip", "siglip_vision_model"),
        ("siglip_model_of_mine", "siglip-model"),
        ("model_2", "model2"),
    ],
)
def test_the_name_of_an_architecture_before_all_names_is_no_wrapper(look, part, model_type):
    names = list_names(2, "encoder")
    look([f"{part}.{name}" for name in names], {"model_type": model_type})
    with pytest.raises(ArtefactError, match="begin with 'other_part'"):
        look([f"other_part.{name}" for name in names], {"model_type": model_type})


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "0.auto_model.", "0.model.", "auto_model."])
def test_a_known_wrapper_is_told_and_removed(look, wrapper):
    names = [f"{wrapper}{name}" for name in list_names(3, "encoder.layer")]
    with pytest.warns(WeightsWarning, match=f"backbone me/a: the names of its tensors begin with `{wrapper}`"):
        look(names)
    with pytest.warns(WeightsWarning), pytest.raises(ArtefactError, match=r"lack 1 tensor .*: encoder\.layer\.1;"):
        look([name for name in names if ".1." not in name])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        look(list_names(3, "model.layers"))  # transformers itself removes `model.`


def test_weights_that_are_not_floats_are_refused(look):
    with pytest.raises(ArtefactError, match="is stored as I8"):
        look(list_names(1, "encoder"), dtype="I8")


@pytest.mark.parametrize("section", ["text_config", "vision_config"])
def test_the_number_of_layers_of_each_part_is_that_of_some_list(look, section):
    names = [*list_names(2, "vision_model.layers"), *list_names(3, "text_model.layers")]
    for layers in (2, 3, None, "3", True):
        look(names, {section: {"num_hidden_layers": layers}})
    look(names, {section: None})
    message = rf"config\.json: {section}\.num_hidden_layers: 4, but the weights hold 2 and 3 blocks; use the config"
    with pytest.raises(ArtefactError, match=message):
        look(names, {section: {"num_hidden_layers": 4}})
    with pytest.raises(ArtefactError, match="num_hidden_layers: 4, but the weights hold no blocks"):
        look(["vision_model.a.weight"], {section: {"num_hidden_layers": 4}})


def test_every_gap_of_every_list_is_named():
    names = [*list_names(4, "a"), *list_names(4, "b.c")]
    names = [name for name in names if name not in ("a.1.a.bias", "a.1.b.bias", "b.c.2.a.weight")]
    names += ["a.1.x", "a.1.y", "b.c.2.x"]
    assert weights_look.find_gaps(names) == ["a.1.a.bias", "a.1.b.bias", "b.c.2.a.weight"]
    assert weights_look.find_gaps([name for name in list_names(5, "a") if ".1." not in name and ".3." not in name]) == [
        "a.1"
    ]
    assert weights_look.find_gaps([]) == []
