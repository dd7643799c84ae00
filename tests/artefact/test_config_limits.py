"""Numbers and names in small files of a model folder: each kind has its limit, and the message has the place."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from zoo.artefact import preflight
from zoo.core import strict_json
from zoo.core.errors import ArtefactError


@pytest.mark.parametrize(
    "name",
    [
        *("hidden_dim", "width", "attention_heads", "vocab_size", "num_channels", "intermediate_size", "max_positions"),
        *("depth", "patch_size", "num_things", "head_dim", "embed_dim", "n_layers", "image_size", "embedding_size"),
        *("channels", "positions", "patch", "vocab", "hidden", "heads", "intermediate"),
    ],
)
def test_a_size_cannot_be_negative(tmp_path, name):
    for value in (0, 5):
        preflight.check_integers(tmp_path / "config.json", {name: value})
    with pytest.raises(ArtefactError, match=rf"config\.json: {name}: -1 is a size, so it cannot be negative"):
        preflight.check_integers(tmp_path / "config.json", {"inner": [{name: -1}]})


@pytest.mark.parametrize("name", ["num_layers", "depths", "blocks", "stage_count"])
def test_numbers_of_layers_depths_blocks_and_stages_have_the_limit_of_the_weights(tmp_path, name):
    preflight.check_integers(tmp_path / "config.json", {name: 12}, 12)
    preflight.check_integers(tmp_path / "config.json", {name: preflight.INTEGER})
    with pytest.raises(ArtefactError, match=f"{name}: 13 is beyond every model; the limit is 12"):
        preflight.check_integers(tmp_path / "config.json", {name: 13}, 12)
    with pytest.raises(ArtefactError, match="num_labels: 100001 is beyond every model; the limit is 100000"):
        preflight.check_integers(tmp_path / "config.json", {"num_labels": 100_001}, 12)
    preflight.check_integers(tmp_path / "config.json", {"labels": 100_001}, 0)
    assert preflight.INTEGER == 10**7


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".yaml", ".md", ".txt", ".jinja"])
def test_every_kind_of_text_file_has_a_limit(tmp_path, suffix):
    with (tmp_path / f"a{suffix}").open("wb") as file:
        file.truncate(preflight.LIMIT + 1)
    preflight.check_sizes(tmp_path)
    with pytest.raises(ArtefactError, match=r"4194305 bytes are more than such a file can need \(4194304\)"):
        preflight.check_sizes(tmp_path, {})


@pytest.mark.parametrize("name", ["config.json", "modules.json"])
def test_files_that_are_read_first_have_the_small_limit_at_once(tmp_path, name):
    with (tmp_path / name).open("wb") as file:
        file.truncate(preflight.LIMIT + 1)
    with pytest.raises(ArtefactError, match=r"\(4194304\); do not open this model"):
        preflight.check_sizes(tmp_path)


@pytest.mark.parametrize("kind", ["Transformer", "StaticEmbedding", "Pooling", "Dense", "Normalize"])
def test_the_modules_that_zoo_opens_pass_and_others_are_named_in_short(tmp_path, kind):
    def write(*modules):
        (tmp_path / "modules.json").write_text(json.dumps(modules))

    write({"type": f"sentence_transformers.models.{kind}", "path": "1_A"}, {"type": f"sentence_transformers.{kind}"})
    preflight.check(tmp_path)
    write({"type": f"sentence_transformers.models.{kind}"}, {"type": "x" * 100 + kind})
    with pytest.raises(
        ArtefactError, match=rf"modules\.json: the module '{'x' * 80}' is not supported; use Transformer"
    ):
        preflight.check(tmp_path)
    write({"type": f"my_sentence_transformers.{kind}"})
    with pytest.raises(ArtefactError, match="is not supported"):
        preflight.check(tmp_path)


def test_files_below_subfolders_are_checked_and_the_adapter_may_name_its_base(tmp_path):
    inner = tmp_path / "1_Dense"
    inner.mkdir()
    (inner / "adapter_config.json").write_text('{"base_model_name_or_path": "me/a"}')
    preflight.check(tmp_path, "1_Dense")
    for adapter_folder in (None, "", "2_Dense"):
        with pytest.raises(ArtefactError, match="makes the libraries load another model"):
            preflight.check(tmp_path, adapter_folder)
    (inner / "adapter_config.json").unlink()
    (inner / "part.safetensors.index.json").write_text('{"weight_map": {"a": "../b.safetensors"}}')
    with pytest.raises(ArtefactError, match=r"part\.safetensors\.index\.json: '\.\./b\.safetensors' leaves"):
        preflight.check(tmp_path)
    (inner / "part.safetensors.index.json").unlink()
    (inner / "part.safetensors").write_bytes(b"x")
    with pytest.raises(ArtefactError, match="cannot be read as safetensors"):
        preflight.check(tmp_path)


def test_the_values_of_a_json_file_may_take_as_much_memory_as_the_weights(tmp_path, monkeypatch):
    reads = []
    monkeypatch.setattr(strict_json, "read", lambda path, **options: reads.append((path.name, options)) or {})
    for name in ("a.json", "vocab.json"):
        (tmp_path / name).write_text("{}")
    save_file({"a": np.zeros(100)}, tmp_path / "model.safetensors")
    preflight.check(tmp_path)
    memory = strict_json.MEMORY + (tmp_path / "model.safetensors").stat().st_size
    assert reads == [
        ("a.json", {"memory": memory, "may_repeat_keys": False}),
        ("vocab.json", {"memory": memory, "may_repeat_keys": True}),
    ]


def test_shapes_that_do_not_fit_are_listed_up_to_four_in_order(tmp_path):
    save_file({name * 70: np.zeros(2, np.float32) for name in "abc"}, tmp_path / "part.safetensors")
    save_file({"z": np.zeros(2, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(ArtefactError) as caught:
        preflight.check_shapes(tmp_path, {"d": (1,), "e": (2,)}, "part")
    extra = "; ".join(f"extra tensor {name * 60}" for name in "abc")
    assert str(caught.value) == (
        f"{tmp_path}: weights do not fit config.json: {extra}; missing tensor d; download the model again"
    )


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ({"vocab_size": 5}, 5),
        ({"text_config": {"vocab_size": 6}}, 6),
        ({"vocab_size": 5, "text_config": {"vocab_size": 6}}, 5),
        ({"vocab_size": 0, "text_config": {"vocab_size": 1}}, 1),
        ({"vocab_size": True, "text_config": 3}, None),
        ({"vocab_size": -2}, None),
        ([], None),
        ({}, None),
        (None, None),
    ],
)
def test_the_number_of_embeddings_is_that_of_the_model_or_of_its_text_part(tmp_path, config, size):
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    assert preflight._read_vocabulary_size(tmp_path) == size


def test_json_that_cannot_be_read_is_named_in_short(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"k" * 300: 1})[:-1] + f', "{"k" * 300}": 2}}')
    with pytest.raises(
        ArtefactError, match=r"a\.json: cannot be read as JSON: the key .{1,120}; download the model"
    ) as caught:
        preflight.read_json(tmp_path / "a.json")
    assert str(caught.value).count("k") < 130
    with pytest.raises(ArtefactError, match="No such file"):
        preflight.read_json(tmp_path / "gone.json")
    assert preflight.read_list(tmp_path / "gone.json") == []
    (tmp_path / "b.json").write_text("[1, 2]")
    assert preflight.read_list(tmp_path / "b.json") == [1, 2]
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(ArtefactError, match=r"b\.json: is not a list; download the model again"):
        preflight.read_list(tmp_path / "b.json")


@pytest.mark.parametrize("settings", [{"a": 0, "b": 0.0}, {"epochs": 10_000}])
def test_settings_may_be_zero(tmp_path, settings):
    assert preflight.check_training_settings(tmp_path, settings) == settings
    with pytest.raises(
        ArtefactError, match=r"config\.json: the settings of the training are not numbers of at least 0"
    ):
        preflight.check_training_settings(tmp_path, {**settings, "c": -0.1})
