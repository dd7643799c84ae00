"""A model of transformers is opened from files of its folder alone, and no weight is drawn at random in silence."""

from __future__ import annotations

import json
import warnings
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from zoo.artefact import pretrained_model, tensors, transformer_folder
from zoo.core.errors import ArtefactError, WeightsWarning


class Model(torch.nn.Module):
    base_model_prefix = "base"
    all_tied_weights_keys: dict[str, str] = {}

    def __init__(self, width):
        super().__init__()
        self.layer = torch.nn.Linear(width, 2)
        self.pooler = torch.nn.Linear(2, 2)


@pytest.fixture
def open_model(tmp_path, monkeypatch):
    """Open weights by an Auto class that records its calls and reports these keys."""
    monkeypatch.setattr(pretrained_model, "save_under_own_names", lambda model: None)  # what is returned is no model

    def open_weights(weights, width=3, missing=(), unexpected=()):
        calls = []

        class Auto:
            @staticmethod
            def from_config(config, **options):
                calls.append((config, options, torch.empty(1).device.type))
                return Model(width)

            @staticmethod
            def from_pretrained(folder, **options):
                calls.append((folder, options))
                return "the model", {"missing_keys": list(missing), "unexpected_keys": list(unexpected)}

        save_file({name: torch.ones(shape) for name, shape in weights.items()}, tmp_path / "model.safetensors")
        return pretrained_model.open_model(Auto, tmp_path, "me/a", "the config", dtype="half"), calls

    return open_weights


WEIGHTS = {"layer.weight": (2, 3), "layer.bias": (2,)}


def test_only_files_of_the_folder_are_read_and_no_code_is_run(open_model, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model, calls = open_model(WEIGHTS)
    assert model == "the model"
    options = {
        "config": "the config",
        "output_loading_info": True,
        "key_mapping": {},
        "use_safetensors": True,
        "trust_remote_code": False,
        "local_files_only": True,
        "token": False,
        "dtype": "half",
    }
    assert calls == [("the config", {"trust_remote_code": False}, "meta"), (tmp_path, options)]


def test_the_prefix_of_a_wrapper_is_removed_also_before_that_of_transformers(open_model):
    with pytest.warns(WeightsWarning, match="backbone me/a: the names of its tensors begin with `module.`"):
        _, calls = open_model({f"module.base.{name}": shape for name, shape in WEIGHTS.items()})
    assert calls[1][1]["key_mapping"] == {r"^module\.": ""}


def test_missing_tensors_are_named_in_order_and_a_pooler_may_be_missing(open_model, tmp_path):
    open_model(WEIGHTS, missing=["pooler.weight"])
    message = rf"{tmp_path}: the weights lack 2 tensors .*: a, b; they hold names such as layer\.bias"
    with pytest.raises(ArtefactError, match=message):
        open_model(WEIGHTS, missing=["b", "pooler.bias", "a"])


def test_unexpected_tensors_are_told_in_order(open_model):
    with pytest.warns(WeightsWarning, match="2 tensors are not part of the model and ignored: a, b$"):
        open_model(WEIGHTS, unexpected=["b", "a"])


def test_a_config_may_describe_twice_as_many_numbers_as_the_weights_hold_but_no_more(open_model):
    open_model(WEIGHTS, width=4)
    with pytest.raises(ArtefactError, match=r"config\.json: describes a larger model than the weights hold"):
        open_model(WEIGHTS, width=5)


def test_weights_that_are_not_floats_are_refused_before_a_model_is_described(tmp_path):
    save_file({"layer.weight": torch.ones(2, dtype=torch.int8)}, tmp_path / "model.safetensors")
    with pytest.raises(ArtefactError, match="is stored as"):
        pretrained_model.open_model(None, tmp_path, "me/a", None)


# -- folders of sentence-transformers ----------------------------------------------------------------------------------


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder whose model has two blocks of one weight and a width of four."""
    monkeypatch.setattr(transformer_folder, "_describe_model", lambda *_: ({"x.block.0.w": (2, 4)}, "base."))
    save_file({f"x.block.{i}.w": torch.ones(2, 4) for i in range(2)}, tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", {"model_type": "m", "layers": 2, "hidden_size": 4})
    return tmp_path


def test_the_number_of_blocks_is_that_of_the_weights(folder):
    assert transformer_folder.check(folder, "x.block", "layers").unexpected == ("x.block.1.w",)
    for count, blocks in ((3, 2), (None, 2)):
        write_json(folder / "config.json", {"layers": count})
        message = rf"config\.json: layers: {count}, but the weights hold {blocks}; download the model again"
        with pytest.raises(ArtefactError, match=message):
            transformer_folder.check(folder, "x.block", "layers")
    write_json(folder / "config.json", {"layers": 0})
    with pytest.raises(ArtefactError, match="layers: 0, but the weights hold 2"):
        transformer_folder.check(folder, "block", "layers")
    for other in ("lock", "x.bloc", "x?block"):
        transformer_folder.check(folder, other, "layers")


def test_a_model_of_more_than_twice_the_numbers_is_refused(folder, monkeypatch):
    def describe(count):
        monkeypatch.setattr(transformer_folder, "_describe_model", lambda *_: ({"pooler": (count,)}, ""))
        return transformer_folder.check(folder, "x.block", "layers")

    describe(32)
    with pytest.raises(ArtefactError, match=r"config\.json: describes 33 numbers, but the weights hold 16; download"):
        describe(33)


@pytest.mark.parametrize("name", ["hidden_size", "dim"])
def test_the_width_of_a_pooling_is_that_of_the_model(folder, name):
    write_json(folder / "config.json", {"layers": 2, name: 4})
    modules = [{"type": "a.Transformer"}, {"type": "a.Pooling", "path": "1_Pooling"}, {"type": "a.Normalize"}]
    write_json(folder / "modules.json", modules)
    transformer_folder.check(folder, "x.block", "layers")
    for entries in ({}, {"word_embedding_dimension": 4}, {"embedding_dimension": 4}):
        write_json(folder / "1_Pooling" / "config.json", entries)
        transformer_folder.check(folder, "x.block", "layers")
    for entry in ("word_embedding_dimension", "embedding_dimension"):
        write_json(folder / "1_Pooling" / "config.json", {entry: 5})
        with pytest.raises(
            ArtefactError, match=r"1_Pooling/config\.json: pools 5 components, but the model has 4; down"
        ):
            transformer_folder.check(folder, "x.block", "layers")


def test_a_dense_layer_has_a_matrix_of_its_shape(folder):
    write_json(folder / "modules.json", [{"type": "a.Transformer"}, {"type": "a.Dense", "path": "2_Dense"}])
    write_json(folder / "2_Dense" / "config.json", {"in_features": 4, "out_features": 2})
    save_file({"linear.weight": torch.ones(2, 4)}, folder / "2_Dense" / "model.safetensors")
    transformer_folder.check(folder, "x.block", "layers")
    write_json(folder / "2_Dense" / "config.json", {"in_features": 2, "out_features": 4})
    message = (
        r"2_Dense/config\.json: describes a matrix of shape \(4, 2\), but no tensor beside it has this shape; down"
    )
    with pytest.raises(ArtefactError, match=message):
        transformer_folder.check(folder, "x.block", "layers")
    write_json(folder / "modules.json", [{"type": "a.Transformer"}, {"type": "a.Dense", "path": ".hidden"}])
    with pytest.raises(ArtefactError, match=r"modules\.json: '\.hidden' is hidden"):
        transformer_folder.check(folder, "x.block", "layers")


def test_the_transformer_is_the_first_module_or_the_folder_itself(folder):
    assert transformer_folder.find_transformer(folder) == folder
    for modules, place in (
        ([], folder),
        ([{"path": "0_T"}, {"path": "1_T"}], folder / "0_T"),
        ([3], folder),
        ([{}], folder),
    ):
        write_json(folder / "modules.json", modules)
        assert transformer_folder.find_transformer(folder) == place
    assert transformer_folder.read_model_type(folder) == "m"
    for config in ({"a": 1}, ["model_type"]):
        write_json(folder / "config.json", config)
        with pytest.raises(ArtefactError, match=r"config\.json: has no `model_type`; add the name of the architecture"):
            transformer_folder.read_model_type(folder)


def test_the_described_model_is_built_without_memory_network_or_code(tmp_path, monkeypatch):
    import transformers

    calls = []

    class AutoConfig:
        @staticmethod
        def from_pretrained(folder, **options):
            calls.append((folder, options))
            return "the config"

    class AutoModel:
        @staticmethod
        def from_config(config, **options):
            calls.append((config, options, torch.empty(1).device.type))
            return Model(3)

    monkeypatch.setattr(pretrained_model, "get_checkpoint_shapes", tensors.get_shapes)
    monkeypatch.setattr(transformers, "AutoConfig", AutoConfig)
    monkeypatch.setattr(transformers, "AutoModel", AutoModel)
    shapes, prefix = transformer_folder._describe_model(tmp_path)
    assert (shapes["layer.weight"], prefix) == ((2, 3), "base.")
    assert calls == [
        (tmp_path, {"trust_remote_code": False, "local_files_only": True, "token": False}),
        ("the config", {"trust_remote_code": False}, "meta"),
    ]
    for error, reason in ((KeyError(), "KeyError"), (ValueError("x" * 200 + "\nmore"), "x" * 120)):
        failing = SimpleNamespace(from_pretrained=lambda *_, error=error, **__: (_ for _ in ()).throw(error))
        monkeypatch.setattr(transformers, "AutoConfig", failing)
        with pytest.raises(ArtefactError, match=rf"config\.json: no model can be made of it: {reason}; download"):
            transformer_folder._describe_model(tmp_path)
