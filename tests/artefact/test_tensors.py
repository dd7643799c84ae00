"""Tensors go from a module to safetensors files and back, and any difference is an error."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from zoo.artefact import tensors
from zoo.core import atomic_files
from zoo.core.errors import ArtefactError

INDEX = "model.safetensors.index.json"


@pytest.fixture
def module():
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))


def test_extracted_tensors_fill_another_module(module, tmp_path):
    module.register_buffer("transposed", torch.randn(2, 3).T)  # not contiguous, which safetensors refuses
    save_file(tensors.extract(module), tmp_path / "model.safetensors")
    other_module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    other_module.register_buffer("transposed", torch.zeros(3, 2))
    tensors.fill(other_module, tensors.read(tmp_path), tmp_path)
    for name, tensor in module.state_dict().items():
        assert torch.equal(other_module.state_dict()[name], tensor)
    assert tensors.get_shapes(module)["0.weight"] == (3, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"0.weight": None}, "missing tensor 0.weight"),
        ({"surplus": torch.ones(1)}, "extra tensor surplus"),
        ({"0.weight": torch.ones(12)}, r"tensor 0\.weight has shape \(12,\), not \(3, 4\)"),
        ({"0.weight": torch.full((3, 4), float("nan"))}, "tensor 0.weight holds NaN or infinity"),
        ({"0.weight": torch.full((3, 4), float("inf"))}, "tensor 0.weight holds NaN or infinity"),
        ({"1.num_batches_tracked": torch.tensor(1.0), "x": torch.ones(1)}, "extra tensor x"),
        ({f"extra-{number}": torch.ones(1) for number in range(6)}, r"extra-3 \(and 2 more\); download"),
        ({f"extra-{number}": torch.ones(1) for number in range(5)}, r"extra-3 \(and 1 more\); download"),
        ({f"extra-{number}": torch.ones(1) for number in range(4)}, "extra-3; download the model again or retrain it"),
    ],
)
def test_tensors_that_do_not_fit_are_named_and_change_nothing(module, tmp_path, changes, message):
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    changed = tensors.extract(module) | changes
    changed = {name: tensor for name, tensor in changed.items() if tensor is not None}
    with pytest.raises(ArtefactError, match=f"weights do not fit config.json: .*{message}"):
        tensors.fill(module, changed, tmp_path)
    assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("content", [None, b"", b"x" * 100])
def test_a_missing_or_damaged_file_is_an_error(tmp_path, content):
    if content is not None:
        (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ArtefactError, match=r"model\.safetensors: cannot be read as safetensors"):
        tensors.read(tmp_path)


def test_large_weights_are_split_into_shards_that_hold_the_same_tensors(tmp_path):
    saved = {f"layer.{number}": torch.randn(100) for number in range(8)} | {"large": torch.randn(1000)}
    save_file(saved, tmp_path / "model.safetensors")
    tensors.split(tmp_path, max_shard_size=1000)
    names = tensors.list_files(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    assert names == sorted(path.name for path in tmp_path.glob("*.safetensors"))
    shards = {name: load_file(tmp_path / name) for name in names}
    for shard in shards.values():
        assert sum(tensor.nbytes for tensor in shard.values()) <= 1000 or len(shard) == 1, "no tensor is divided"
    loaded = tensors.read(tmp_path)
    assert loaded.keys() == saved.keys()
    assert all(torch.equal(loaded[name], saved[name]) for name in saved)
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["weight_map"] == {tensor: name for name, shard in shards.items() for tensor in shard}


@pytest.mark.parametrize("stem", ["model", "head"])
def test_shards_have_the_names_the_format_and_the_index_of_transformers(tmp_path, stem):
    saved = {"a": torch.ones(100), "b": torch.ones(100)}
    save_file(saved, tmp_path / f"{stem}.safetensors")
    tensors.split(tmp_path, 500, stem)
    names = [f"{stem}-0000{number}-of-00002.safetensors" for number in (1, 2)]
    assert tensors.list_files(tmp_path, stem) == names
    for name in names:
        with safe_open(tmp_path / name, "pt") as file:
            assert file.metadata() == {"format": "pt"}
    text = (tmp_path / f"{stem}.safetensors.index.json").read_text()
    index = json.loads(text)
    assert index["metadata"]["total_size"] == 800
    assert text.startswith('{\n  "metadata"')
    assert text.endswith("}\n")
    assert tensors.read(tmp_path, stem).keys() == saved.keys()


def test_one_large_tensor_and_a_missing_file_are_not_split(tmp_path):
    save_file({"a": torch.ones(100)}, tmp_path / "model.safetensors")
    tensors.split(tmp_path, 10)
    tensors.split(tmp_path, 10, "gone")
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_the_digest_of_weights_is_that_of_the_file_or_of_the_hashes_of_its_shards(tmp_path):
    save_file({"a": torch.ones(100), "b": torch.ones(100)}, tmp_path / "model.safetensors")
    assert tensors.compute_digest(tmp_path) == atomic_files.sha256(tmp_path / "model.safetensors")
    assert tensors.list_pretrained_files(tmp_path) == [tmp_path / "model.safetensors"]
    tensors.split(tmp_path, 500)
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert tensors.compute_digest(tmp_path) == atomic_files.digest([atomic_files.sha256(path) for path in shards])
    assert tensors.list_pretrained_files(tmp_path) == shards
    shards[1].unlink()
    with pytest.raises(ArtefactError, match="has no model-00002-of-00002.safetensors; download the model again"):
        tensors.compute_digest(tmp_path)
    (tmp_path / INDEX).unlink()
    with pytest.raises(ArtefactError, match="has no model.safetensors; download the model again"):
        tensors.list_pretrained_files(tmp_path)
    (tmp_path / INDEX).write_text('{"weight_map": {"a": "gone.safetensors"}}')
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    assert tensors.list_pretrained_files(tmp_path) == [tmp_path / "model.safetensors"], "as transformers chooses"


def test_integers_are_kept_as_integers_and_may_have_any_value(tmp_path):
    batch_norm = torch.nn.BatchNorm1d(2)
    weights = tensors.extract(batch_norm) | {"num_batches_tracked": torch.tensor(7)}
    tensors.fill(batch_norm, weights, tmp_path)
    assert batch_norm.num_batches_tracked == 7
    message = r"tensor num_batches_tracked is stored as torch\.float32, not torch\.int64"
    with pytest.raises(ArtefactError, match=message):
        tensors.fill(batch_norm, weights | {"num_batches_tracked": torch.tensor(7.0)}, tmp_path)
    assert not tensors.extract(torch.nn.Linear(2, 2))["weight"].requires_grad


def test_weights_of_exactly_the_largest_size_are_not_split(tmp_path):
    save_file({"a": torch.ones(10), "b": torch.ones(10)}, tmp_path / "model.safetensors")
    tensors.split(tmp_path, max_shard_size=(tmp_path / "model.safetensors").stat().st_size)
    assert tensors.list_files(tmp_path) == ["model.safetensors"]
    assert not (tmp_path / INDEX).exists()


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("[]", "has no weight_map"),
        ('{"weight_map": {}}', "has no weight_map"),
        ('{"weight_map": {"a": ["model.safetensors"]}}', "has no weight_map"),
        ('{"weight_map": {"a": "../model.safetensors"}}', "leaves the folder"),
        ('{"weight_map": {"a": "/model.safetensors"}}', "leaves the folder"),
        (
            '{"weight_map": {"a": "sub/model.safetensors"}}',
            "names 'sub/model.safetensors', which is not a safetensors file",
        ),
        (
            '{"weight_map": {"a": "model.bin"}}',
            "names 'model.bin', which is not a safetensors file of this folder; do not",
        ),
        ('{"weight_map": []}', "has no weight_map of tensor names to file names; download the model again"),
        ('{"a": 1}', "has no weight_map"),
    ],
)
def test_a_malformed_index_is_an_error(tmp_path, index, message):
    (tmp_path / INDEX).write_text(index)
    with pytest.raises(ArtefactError, match=message):
        tensors.list_files(tmp_path)
